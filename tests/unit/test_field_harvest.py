"""Corrected outlines that come back from a PACS become samples that name nobody."""

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
import typer
from pydicom.uid import generate_uid
from typer.testing import CliRunner

from daemon.domain.output import OutputKind
from daemon.imaging.read import read_series
from daemon.imaging.steps import prepare
from daemon.imaging.volume import Grid
from dicom_fixtures.planes import Layout, Orientation
from dicom_fixtures.studies import StudyRequest, make_brain_mri
from tests.manifests import BRAIN
from tests.sources import COARSE, blobs, case
from training.commands.harvest import harvest as command
from training.data.sample import Sample
from training.field.harvest import Wanted, harvest

CONFIG = Path(__file__).parents[2] / "training" / "configs" / "brain-mri.toml"
SALT = b"sixteen bytes of secret"
WANTED = Wanted(manifest=BRAIN, salt=SALT)


def head(out: Path, orientation: Orientation = Orientation.AXIAL) -> list[Path]:
    layout = Layout(orientation=orientation, spacing=COARSE, matrix=(64, 64))
    return make_brain_mri(StudyRequest(seed=3, spacing=COARSE, layout=layout), out).series["FLAIR"]


def drawn(paths: list[Path], to: Path, mask: np.ndarray, time: str = "120000", maker: str = "Reader") -> Path:
    """Write a SEG of `mask` as a workstation of another maker would."""
    seg = pydicom.dcmread(BytesIO(case(paths, mask=mask).contents[OutputKind.SEGMENTATION]))
    seg.Manufacturer, seg.ContentTime = maker, time
    if maker != "Overread":
        seg.SOPInstanceUID = seg.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[time, to.name])
    seg.save_as(to)
    return to


def masks(paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Return an outline of ours and a correction of it that is half as wide again."""
    source = read_series(paths)
    return blobs(source, 1, radius=8), blobs(source, 1, radius=12)


def points(mask: np.ndarray, grid: Grid) -> np.ndarray:
    return grid.points(np.argwhere(mask))


@pytest.mark.parametrize("orientation", [Orientation.AXIAL, Orientation.SAGITTAL, Orientation.OBLIQUE])
def test_a_correction_becomes_a_sample(tmp_path: Path, orientation: Orientation) -> None:
    """The mask lies where the reader drew it, beside the image of the daemon's own preparation; ours is compared."""
    paths = head(tmp_path / "in", orientation)
    ours, corrected = masks(paths)
    drawn(paths, tmp_path / "in" / "ours.dcm", ours, maker="Overread")
    drawn(paths, tmp_path / "in" / "theirs.dcm", corrected)
    found = harvest(tmp_path / "in", WANTED, tmp_path / "out")
    (item,) = found.samples
    sample = Sample.load(tmp_path / "out" / f"{item.name}.npz")
    source = read_series(paths)
    ready = prepare({"MR": source.volume}, BRAIN.recipe)
    assert np.array_equal(sample.image, ready.array.astype(np.float16))
    assert sample.mask is not None
    got, truth = points(sample.mask > 0, ready.grid), points(corrected, source.volume.grid)
    assert np.abs(got.mean(axis=0) - truth.mean(axis=0)).max() < 1.5
    assert item.ml == pytest.approx(len(truth) * source.volume.grid.voxel_ml, rel=0.2)
    assert item.dice == pytest.approx(2 * ours.sum() / (ours.sum() + corrected.sum()), abs=0.03)
    assert (sample.tumour, sample.strata, sample.source) == (1, ("corrected",), "harvest MR")


def test_the_newest_correction_counts(tmp_path: Path) -> None:
    """Of two corrections the later one is taken, and the other counted; without ours there is no Dice."""
    paths = head(tmp_path)
    small, large = masks(paths)
    drawn(paths, tmp_path / "b.dcm", small, time="130000")
    drawn(paths, tmp_path / "a.dcm", large, time="120000")
    found = harvest(tmp_path, WANTED, tmp_path / "out")
    assert (len(found.samples), found.superseded, found.samples[0].dice) == (1, 1, None)
    assert found.samples[0].ml == pytest.approx(small.sum() * float(np.prod(COARSE)) / 1000, rel=0.25)


def test_a_missing_source_is_refused_by_uid(tmp_path: Path) -> None:
    """A SEG whose series, or a part of it, did not come along is named by its UID, and by nothing of the patient."""
    paths = head(tmp_path)
    header = pydicom.dcmread(paths[0], stop_before_pixels=True)
    drawn(paths, tmp_path / "theirs.dcm", masks(paths)[1])
    uid = str(pydicom.dcmread(tmp_path / "theirs.dcm", stop_before_pixels=True).SOPInstanceUID)
    paths[0].unlink()
    some = harvest(tmp_path, WANTED, tmp_path / "out")
    assert list(some.refused) == [uid]
    assert "1 instances of its source series" in some.refused[uid]
    for path in paths[1:]:
        path.unlink()
    none = harvest(tmp_path, WANTED, tmp_path / "out")
    assert str(header.SeriesInstanceUID) in none.refused[uid]
    told = json.dumps([some.refused, none.refused])
    assert str(header.PatientName) not in told
    assert str(header.PatientID) not in told
    assert not list((tmp_path / "out").glob("*"))


def test_of_several_segments_the_tumour_is_taken(tmp_path: Path) -> None:
    """A single segment counts whatever it is called; of several none may be a tumour, and then the SEG is refused."""
    paths = head(tmp_path)
    seg = pydicom.dcmread(drawn(paths, tmp_path / "theirs.dcm", masks(paths)[1]))
    other = pydicom.dcmread(BytesIO((tmp_path / "theirs.dcm").read_bytes())).SegmentSequence[0]
    for code in (other.SegmentedPropertyTypeCodeSequence[0], other.SegmentedPropertyCategoryCodeSequence[0]):
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "85756007", "SCT", "Tissue"
    seg.SegmentSequence[0] = other
    seg.save_as(tmp_path / "theirs.dcm")
    assert len(harvest(tmp_path, WANTED, tmp_path / "out").samples) == 1
    second = pydicom.Dataset()
    second.update(other)
    second.SegmentNumber = 2
    seg.SegmentSequence.append(second)
    seg.save_as(tmp_path / "theirs.dcm")
    (reason,) = harvest(tmp_path, WANTED, tmp_path / "out").refused.values()
    assert "none of its segments" in reason


def test_a_correction_that_vanishes_is_still_a_tumour(tmp_path: Path) -> None:
    """A thin one leaves no voxel on a coarse grid and never becomes a sample without tumour; an empty one is such."""
    paths = head(tmp_path / "in")
    thin = np.zeros_like(masks(paths)[0])
    thin[thin.shape[0] // 2, 30:33, 30] = True
    coarse = replace(BRAIN, recipe=replace(BRAIN.recipe, spacing=(12.0, 9.0, 9.0), neighbours=1))
    seg = pydicom.dcmread(drawn(paths, tmp_path / "in" / "theirs.dcm", thin))
    found = []
    for frames in (seg.PixelData, bytes(len(seg.PixelData))):
        seg.PixelData = frames
        seg.save_as(tmp_path / "in" / "theirs.dcm")
        (item,) = harvest(tmp_path / "in", Wanted(manifest=coarse, salt=SALT), tmp_path / "out").samples
        sample = Sample.load(tmp_path / "out" / f"{item.name}.npz")
        assert sample.mask is not None
        found.append((sample.tumour, bool(sample.mask.any())))
    assert found == [(1, False), (0, False)]


def test_an_outline_outside_the_image_is_refused(tmp_path: Path) -> None:
    """A SEG whose frames lie a metre away tells of two origins, not of a healthy patient."""
    paths = head(tmp_path)
    seg = pydicom.dcmread(drawn(paths, tmp_path / "theirs.dcm", masks(paths)[1]))
    for frame in seg.PerFrameFunctionalGroupsSequence:
        place = frame.PlanePositionSequence[0]
        x, y, z = place.ImagePositionPatient
        place.ImagePositionPatient = [x + 1000, y, z]
    seg.save_as(tmp_path / "theirs.dcm")
    (reason,) = harvest(tmp_path, WANTED, tmp_path / "out").refused.values()
    assert "the outline lies outside the image" in reason


@pytest.mark.parametrize(
    ("keyword", "value", "said"),
    [
        ("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"], "is a localizer"),
        ("SeriesDescription", "ep2d_diff_ADC", "not one the model reads"),
        ("BodyPartExamined", "KNEE", "body part"),
    ],
)
def test_a_series_that_the_daemon_would_not_read_is_refused(
    tmp_path: Path, keyword: str, value: object, said: str
) -> None:
    """What the daemon never reads teaches it nothing: its own choice of series decides, and its sentence is told."""
    paths = head(tmp_path)
    for path in paths:
        image = pydicom.dcmread(path)
        setattr(image, keyword, value)
        image.save_as(path)
    drawn(paths, tmp_path / "theirs.dcm", masks(paths)[1])
    found = harvest(tmp_path, WANTED, tmp_path / "out")
    (reason,) = found.refused.values()
    assert not found.samples
    assert "the daemon would not read its source series" in reason
    assert said in reason


def test_names_hide_the_patient(tmp_path: Path) -> None:
    """Neither names nor samples hold an identifier; another salt gives other names, the same salt the same."""
    paths = head(tmp_path / "in")
    drawn(paths, tmp_path / "in" / "theirs.dcm", masks(paths)[1])
    header = pydicom.dcmread(paths[0], stop_before_pixels=True)
    names = [
        harvest(tmp_path / "in", replace(WANTED, salt=salt), tmp_path / "out").samples[0].name
        for salt in (SALT, SALT, SALT[::-1])
    ]
    assert names[0] == names[1] != names[2]
    facts = json.dumps(Sample.load(tmp_path / "out" / f"{names[0]}.npz").facts()) + names[0]
    for secret in (header.PatientID, str(header.PatientName), header.StudyInstanceUID, header.SeriesInstanceUID):
        assert str(secret) not in facts
    with pytest.raises(ValueError, match="at least 16"):
        harvest(tmp_path / "in", replace(WANTED, salt=b"short"), tmp_path / "out")


def test_the_command_reports(tmp_path: Path) -> None:
    """`harvest` writes samples and a report; a folder without DICOM ends with 2."""
    paths = head(tmp_path / "in")
    drawn(paths, tmp_path / "in" / "theirs.dcm", masks(paths)[1])
    salt = tmp_path / "salt"
    salt.write_bytes(SALT)
    app = typer.Typer()
    app.command()(command)
    options = ["--config", str(CONFIG), "--salt-file", str(salt), "--out", str(tmp_path / "out")]
    told = CliRunner().invoke(app, [str(tmp_path / "in"), *options])
    assert told.exit_code == 0, told.output
    report = json.loads((tmp_path / "out" / "harvest.json").read_text())
    assert (tmp_path / "out" / f"{report['samples'][0]['name']}.npz").is_file()
    (tmp_path / "none").mkdir()
    assert CliRunner().invoke(app, [str(tmp_path / "none"), *options]).exit_code == 2
