"""Reading images that people bring, by the class: modes, the condition on the outline, repeatability."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from daemon.domain.finding import Answer
from daemon.domain.reasons import Reason
from daemon.errors import RefusedError, UnprocessableError
from daemon.imaging.read import read_series
from daemon.inference.bundle import needed
from daemon.inference.predictor import Asked, Mode, Prediction, Predictor
from daemon.inference.reader import BundleReader
from dicom_fixtures.studies import StudyRequest, StudyTruth, make_brain_mri
from tests.manifests import BRAIN, PETCT
from tests.tiny_bundle import make_tiny_bundle, tiny_reader
from tests.uploads import MM, head, nifti, picture, spot, volume, zipped

PAGE = Path(__file__).parents[2] / "docs" / "predict.md"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> BundleReader:
    """The tiny bundle."""
    return tiny_reader(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyTruth:
    """A head with a lesion, as DICOM."""
    return make_brain_mri(StudyRequest(seed=11, lesions=1), tmp_path_factory.mktemp("study"))


def predicted(found: Sequence[object]) -> list[Prediction]:
    """Return those that were read."""
    return [one for one in found if isinstance(one, Prediction)]


def test_a_bright_spot_is_outlined_where_it_is(models: BundleReader, tmp_path: Path) -> None:
    """In a picture as in a volume, in the order of the file's own voxels."""
    predictor = Predictor(models)
    flat = predictor.full(picture(tmp_path / "a.png"), Asked(pixel_spacing_mm=MM))
    assert flat.findings.answer is Answer.LIKELY
    assert flat.mask is not None
    assert np.array_equal(flat.mask, spot())
    image = sitk.DICOMOrient(volume(), "RAS")
    whole = predictor.full(nifti(tmp_path / "a.nii.gz", image))
    assert whole.mask is not None
    assert np.array_equal(whole.mask, sitk.GetArrayFromImage(image) == 250)
    assert whole.findings.lesions[0].volume_ml == pytest.approx(4 * spot().sum() * MM * MM * 4.0 / 1000)


def test_a_full_reading_knows_how_sure_it_is_and_a_single_one_does_not_say(
    models: BundleReader, tmp_path: Path
) -> None:
    """Passes, uncertainty and activation, or one pass whose sentence claims no spread."""
    predictor, path = Predictor(models), picture(tmp_path / "a.png")
    full, single = predictor.full(path), predictor.single(path)
    assert (full.findings.passes, single.findings.passes) == (8, 1)
    assert full.reading.sd.max() > 0
    assert single.reading.sd.max() == 0
    assert ("95 %" in full.sentence, "95 %" in single.sentence, "one pass" in single.sentence) == (True, False, True)
    assert [one.name for one in full.snapshots()] == ["overlay", "heat-map", "uncertainty", "activation"]
    assert [one.name for one in single.snapshots()] == ["overlay", "heat-map"]
    assert "mL" not in full.sentence


def test_one_pass_is_the_network_without_dropout(models: BundleReader, tmp_path: Path) -> None:
    """It is what the passes scatter about, in the outline and in the probability."""
    predictor, path = Predictor(models), nifti(tmp_path / "a.nii")
    full, single = predictor.full(path), predictor.single(path)
    assert np.array_equal(full.reading.labels, single.reading.labels)
    assert single.findings.tumour_probability.mean == pytest.approx(full.findings.tumour_probability.mean, abs=0.05)


def test_below_the_threshold_nothing_is_outlined(tmp_path: Path) -> None:
    """The spot is found, but the model as a whole says no: no mask, no lesion, and why."""
    calibration = replace(BRAIN.calibration, platt_intercept=-1000.0)
    make_tiny_bundle(tmp_path / "models" / "brain-mri" / "0.0.1", replace(BRAIN, calibration=calibration))
    found = Predictor(BundleReader(needed(tmp_path / "models"), threads=1, passes=2)).full(picture(tmp_path / "a.png"))
    assert found.reading.probability.max() > 0.9
    assert found.mask is None
    assert found.findings.lesions == ()
    assert not found.reading.labels.any()
    assert "below the model's threshold, 0.500" in found.withheld
    assert "lesion" not in found.sentence


def test_the_same_voxels_give_the_same_answer(models: BundleReader, tmp_path: Path) -> None:
    """To the bit, again and in another file; and other voxels have other masks."""
    predictor = Predictor(models)
    first, again = (predictor.full(nifti(tmp_path / name)) for name in ("a.nii", "b.nii.gz"))
    assert first.digest != again.digest
    assert first.findings == again.findings
    assert np.array_equal(first.reading.probability, again.reading.probability)
    other = predictor.full(nifti(tmp_path / "c.nii", volume(tumour=False)))
    assert other.findings.seed != first.findings.seed


def test_dicom_is_read_as_the_daemon_reads_it(models: BundleReader, study: StudyTruth, tmp_path: Path) -> None:
    """The same numbers as a study that was pushed, from the same files; what is no DICOM is counted."""
    (study.folder / "README").write_text("hello")
    found = Predictor(models).full(zipped(tmp_path / "a.zip", study.folder))
    series = read_series([path for paths in study.series.values() for path in paths])
    (bundle,) = models.bundles()
    wanted = models.read(bundle.ref, {"MR": series.volume}, study.study_instance_uid)
    assert found.findings == wanted.findings
    assert found.study == study.study_instance_uid
    assert found.assumptions == ("Left out of the zip, being no DICOM instance: 1.",)
    assert list(tmp_path.iterdir()) == [tmp_path / "a.zip"]


def test_a_batch_has_an_answer_or_an_error_for_each(models: BundleReader, tmp_path: Path) -> None:
    """In order; one that cannot be read ends no other, and no temporary file is left."""
    (tmp_path / "x.png").write_text("no picture")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    images = [picture(tmp_path / "a.png"), tmp_path / "x.png", nifti(tmp_path / "a.nii.gz", volume(tumour=False))]
    found = Predictor(models, scratch).batch(images)
    assert isinstance(found[1], RefusedError)
    assert [one.mode for one in predicted(found)] == [Mode.SINGLE] * 2
    assert [one.findings.answer for one in predicted(found)] == [Answer.LIKELY, Answer.NOT_LIKELY]
    assert list(scratch.iterdir()) == []


def test_what_cannot_be_read_says_why(models: BundleReader, study: StudyTruth, tmp_path: Path) -> None:
    """A model that is not there, a spacing where none belongs, no study in a zip, several, too few slices."""
    predictor, one = Predictor(models), nifti(tmp_path / "a.nii")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "x").write_text("x")
    other = make_brain_mri(StudyRequest(seed=13, lesions=0, salt="o"), tmp_path / "two")
    first = next(iter(study.series.values()))[0]
    (other.folder / "of another study").write_bytes(first.read_bytes())
    for path, asked, named in (
        (one, Asked(model="none"), "there are brain-mri"),
        (one, Asked(pixel_spacing_mm=1.0), "has its own"),
        (zipped(tmp_path / "b.zip", tmp_path / "empty"), Asked(), "no DICOM file"),
        (zipped(tmp_path / "c.zip", other.folder), Asked(), "2 studies"),
    ):
        with pytest.raises(RefusedError, match=named):
            predictor.full(path, asked)
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / "0.dcm").write_bytes(first.read_bytes())
    with pytest.raises(UnprocessableError) as caught:
        predictor.full(zipped(tmp_path / "d.zip", tmp_path / "few"))
    assert caught.value.reason == Reason.TOO_FEW_SLICES


def test_one_image_is_no_pet_ct(tmp_path: Path) -> None:
    """The model for two is not fed one, and it is said what it takes."""
    make_tiny_bundle(tmp_path / "models" / "petct" / "0.0.1", PETCT)
    predictor = Predictor(BundleReader(needed(tmp_path / "models"), threads=1, passes=2))
    for path in (picture(tmp_path / "a.png"), nifti(tmp_path / "a.nii")):
        with pytest.raises(RefusedError, match="zip with the DICOM files of the PET and of its CT"):
            predictor.full(path)


def test_pictures_show_no_more_than_is_known(models: BundleReader, tmp_path: Path) -> None:
    """The caution is on each; where left and right are is on a volume's, not on a picture's, which does not tell."""
    predictor = Predictor(models)
    flat = predictor.full(picture(tmp_path / "a.png")).snapshots()[0].pixels
    whole = predictor.full(nifti(tmp_path / "a.nii")).snapshots()[0].pixels
    amber = np.array([230, 159, 0])
    for pixels in (flat, whole):
        assert (pixels[:4] == amber).all(axis=-1).mean() > 0.9
    assert not (flat[40:] == amber).all(axis=-1).any()
    assert (whole[40:] == amber).all(axis=-1).any()


def test_the_example_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands there, with the bundles that come along."""
    (example,) = re.findall(r"```python\n(from .*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "models").symlink_to(PAGE.parents[1] / "models")
    picture(tmp_path / "slice.png")
    picture(tmp_path / "other.png", head(tumour=False))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(example, str(PAGE), "exec"), names)  # noqa: S102 - the page's own example
    assert isinstance(names["prediction"], Prediction)
    assert names["prediction"].mode is Mode.FULL
