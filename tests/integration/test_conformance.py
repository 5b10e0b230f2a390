"""Result objects over a matrix of sources: independent readers agree, validators find no error."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from io import BytesIO
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from daemon.domain.finding import Findings, Lesion
from daemon.domain.model_bundle import BundleRef
from daemon.domain.output import OutputKind
from daemon.domain.reasons import Reason
from daemon.domain.references import Reference
from daemon.errors import UnprocessableError
from daemon.results.check import check, check_not_processed
from dicom_fixtures.headers import Patient
from dicom_fixtures.studies import StudyRequest, make_petct
from tests.matrix import MATRIX, NAMES, REAL, brain, real, without_type_2
from tests.outlines import outlined
from tests.sources import Case, case, refused
from tests.validators import dciodvfy, pixelmed

# A report takes Pixelmed seconds, and nothing of it depends on how slices lie: only those that differ are asked for.
REPORTS = ("axial", "many lesions", "no lesion", "multi-frame", "no type 2", "korean", "petct")
VERBATIM = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "AccessionNumber")

REF = BundleRef(name="brain-mri", version="0.0.1", digest="d" * 64)
EARLIER = Reference(
    study_instance_uid="1.2",
    series_instance_uid="1.2.3",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
    sop_instance_uid="1.2.3.4",
)

Build = Callable[[str], tuple[Case, Path]]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Return what makes a case of the matrix once, its objects on disk."""

    @cache
    def built(name: str) -> tuple[Case, Path]:
        folder = tmp_path_factory.mktemp("case")
        made = MATRIX[name](folder) if name in MATRIX else real(name, folder)
        for kind, content in made.contents.items():
            (folder / f"{kind.value}.dcm").write_bytes(content)
        return made, folder

    return built


# Real headers hold values that are too long, which pydicom warns of whenever one is read.
TOO_LONG = pytest.mark.filterwarnings("ignore:The value length")
FROM_REAL = [pytest.param(name, marks=(pytest.mark.shared, TOO_LONG)) for name in REAL]


@pytest.fixture(scope="module", params=[*MATRIX, *FROM_REAL])
def made(request: pytest.FixtureRequest, build: Build) -> tuple[Case, Path]:
    """One case of the matrix."""
    return build(request.param)


def objects(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.dcm"))


def test_the_gate_passes_and_repeats_are_equal(made: tuple[Case, Path]) -> None:
    """Sound objects pass the gate."""
    built, _ = made
    check(built.context, built.labels, built.contents)


def test_dciodvfy_finds_no_error(made: tuple[Case, Path]) -> None:
    """David Clunie's validator finds no error in SEG or SR, but for odd values copied from the source."""
    built, folder = made
    inherited = [line for line in dciodvfy(built.context.source.frames[0].path) if "invalid" in line.lower()]
    for path in objects(folder):
        assert [line for line in dciodvfy(path) if line not in inherited] == [], path.name


@pytest.fixture(scope="module")
def unread(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Reports of studies that were not read: one without a model, one that failed, of a patient with another script."""
    folder = tmp_path_factory.mktemp("unread")
    name, charset = NAMES["korean"]
    korean = Patient(name=name, patient_id="FX-NAME", charset=charset)
    cases = (
        refused(make_petct(StudyRequest(seed=2), folder / "pet").series["PET"], Reason.NO_CT),
        refused(brain(folder / "mr", patient=korean), Reason.DAMAGED, REF, predecessors=(EARLIER,)),
        refused(without_type_2(folder / "bare"), Reason.MISSING_SLICES),
    )
    paths = [folder / f"{number}.dcm" for number in range(len(cases))]
    for path, built in zip(paths, cases, strict=True):
        check_not_processed(built.context, built.content)
        path.write_bytes(built.content)
    return paths


def test_dciodvfy_finds_no_error_where_nothing_was_read(unread: list[Path]) -> None:
    """The same validator, for the reports that a study was not processed."""
    assert [dciodvfy(path) for path in unread] == [[]] * len(unread)


def test_patient_and_study_are_copied_verbatim(made: tuple[Case, Path]) -> None:
    """Names come out as they went in, in their character set; nothing is invented."""
    source = pydicom.dcmread(made[0].context.source.frames[0].path, stop_before_pixels=True)
    for path in objects(made[1]):
        dataset = pydicom.dcmread(path)
        for keyword in VERBATIM:
            assert str(dataset[keyword].value or "") == str(source.get(keyword) or ""), keyword
        assert dataset.get("SpecificCharacterSet") == source.get("SpecificCharacterSet")
        assert dataset.ContentQualification == "RESEARCH"


def test_highdicom_and_dcmqi_read_the_same_voxels(made: tuple[Case, Path], tmp_path: Path) -> None:
    """Two independent readers place every voxel where the model found it."""
    built, folder = made
    seg = folder / "SEG.dcm"
    if not seg.exists():
        pytest.skip("a study without lesion has no SEG")
    expected = built.context.source.volume.grid.points(np.argwhere(built.labels > 0))
    assert _same(outlined(seg), expected)
    program = Path(sys.executable).parent / "segimage2itkimage"
    command = [str(program), "--inputDICOM", str(seg), "--outputDirectory", str(tmp_path), "--outputType", "nifti"]
    subprocess.run(command, check=True, capture_output=True)
    image = sitk.ReadImage(str(next(tmp_path.glob("*.nii.gz"))))
    found = [image.TransformIndexToPhysicalPoint([int(i) for i in p[::-1]]) for p in _marked(image)]
    assert _same(np.array(found), expected)


def _marked(image: sitk.Image) -> np.ndarray:
    return np.argwhere(sitk.GetArrayFromImage(image) > 0)


def _same(found: np.ndarray, expected: np.ndarray) -> bool:
    if len(found) != len(expected):
        return False
    rounded = [sorted(map(tuple, np.round(points, 1) + 0.0)) for points in (found, expected)]
    return float(np.abs(np.array(rounded[0]) - np.array(rounded[1])).max()) < 0.11


def test_dcmqi_and_highdicom_read_the_same_numbers(made: tuple[Case, Path], tmp_path: Path) -> None:
    """Two independent readers find in each group of the report just the numbers that were found, and no other."""
    built, folder = made
    expected = sorted(map(sorted, _numbers(built.context.findings)))
    content = hd.sr.srread(folder / "SR.dcm").content
    groups = [*content.get_volumetric_roi_measurement_groups(), *content.get_image_measurement_groups()]
    assert _close([[float(m.value) for m in group.get_measurements()] for group in groups], expected)
    if not (folder / "SEG.dcm").exists():
        return  # tid1500reader reads groups with a region only
    out = tmp_path / "sr.json"
    command = [str(Path(sys.executable).parent / "tid1500reader"), "--inputDICOM", str(folder / "SR.dcm")]
    subprocess.run([*command, "--outputMetadata", str(out)], check=True, capture_output=True)
    read = json.loads(out.read_text())["Measurements"]
    assert _close([[float(item["value"]) for item in group["measurementItems"]] for group in read], expected)


def _numbers(findings: Findings) -> Iterator[list[float]]:
    """Yield the numbers of each measurement group: the study's, and each lesion's where there are several."""
    risk = [findings.survival_risk] if findings.survival_risk else []
    estimates = [findings.tumour_probability, *risk, *findings.survival.values()]
    study = [value for estimate in estimates for value in (estimate.mean, estimate.sd)]
    study += [findings.uncertainty.score, len(findings.lesions)]
    if findings.volume_ml:
        study += [findings.volume_ml.low, findings.volume_ml.high]
    lesions = findings.lesions
    if len(lesions) == 1:
        study += _of_lesion(lesions[0])
    elif lesions:
        study += [sum(lesion.volume_ml for lesion in lesions), sum(lesion.volume_sd_ml for lesion in lesions)]
        yield from map(_of_lesion, lesions)
    yield study


def _of_lesion(lesion: Lesion) -> list[float]:
    uptake = lesion.uptake
    hot = [uptake.suv_max, uptake.suv_mean, uptake.suv_peak, uptake.mtv_ml, uptake.tlg] if uptake else []
    return [lesion.volume_ml, lesion.volume_sd_ml, lesion.longest_mm, *hot]


def _close(found: list[list[float]], expected: list[list[float]]) -> bool:
    """Say whether both hold the same groups of numbers, in any order, to six digits (what a DS holds of them)."""
    groups = sorted(map(sorted, found))
    return [len(g) for g in groups] == [len(g) for g in expected] and all(
        a == pytest.approx(b, rel=1e-5) for a, b in zip(groups, expected, strict=True)
    )


def test_pixelmed_finds_no_error(build: Build, unread: list[Path]) -> None:
    """Pixelmed's validators find no error in any SEG, nor in the reports that differ."""
    outlines = [path for name in MATRIX if (path := build(name)[1] / "SEG.dcm").exists()]
    assert pixelmed([*outlines, *(build(name)[1] / "SR.dcm" for name in REPORTS), *unread]) == []


def test_a_planted_flip_is_caught(tmp_path: Path) -> None:
    """An outline that is mirrored left to right in the written SEG is held, and the report says where it lies."""
    built = case(brain(tmp_path))
    flipped = replace_pixels(built.contents[OutputKind.SEGMENTATION])
    with pytest.raises(UnprocessableError) as caught:
        check(built.context, built.labels, {**built.contents, OutputKind.SEGMENTATION: flipped})
    assert caught.value.reason == Reason.CONFORMANCE
    assert "mm from the model's" in str(caught.value)


def replace_pixels(content: bytes) -> bytes:
    """Return the SEG with every frame mirrored."""
    seg = pydicom.dcmread(BytesIO(content))
    mirrored = np.asarray(seg.pixel_array).reshape(-1, seg.Rows, seg.Columns)[:, :, ::-1]
    packed = np.packbits(np.ascontiguousarray(mirrored).ravel(), bitorder="little").tobytes()
    seg.PixelData = packed + b"\0" * (len(packed) % 2)
    buffer = BytesIO()
    seg.save_as(buffer)
    return buffer.getvalue()


def test_a_foreign_reference_is_caught(tmp_path: Path) -> None:
    """A SEG that refers to instances of another series is held."""
    built = case(brain(tmp_path))
    frames = tuple(replace(f, sop_instance_uid="1.2.3") for f in built.context.source.frames)
    foreign = replace(built.context, source=replace(built.context.source, frames=frames))
    with pytest.raises(UnprocessableError, match="not the source's"):
        check(foreign, built.labels, built.contents)


@pytest.mark.parametrize("who", NAMES)
def test_a_name_is_written_in_its_own_bytes(who: str, build: Build) -> None:
    """A patient's name in another script has the same bytes in SEG and SR as in the source."""
    built, folder = build(who)
    source = pydicom.dcmread(built.context.source.frames[0].path, stop_before_pixels=True)
    for path in objects(folder):
        written = pydicom.dcmread(path).PatientName
        assert written == NAMES[who][0]
        assert written.original_string == source.PatientName.original_string


def test_the_source_is_left_as_it_was(build: Build) -> None:
    """Making results changes nothing in the headers that they are made of and checked against."""
    for name in ("japanese", "no type 2", "multi-frame"):
        built, _ = build(name)
        first = built.context.source.frames[0].path
        assert built.context.source.header == pydicom.dcmread(first, stop_before_pixels=True)


def test_slices_without_thickness_have_the_volume_that_they_span(tmp_path: Path) -> None:
    """Where the header tells slice thickness and spacing wrong or not at all, positions tell: the gate lets it pass."""
    paths = brain(tmp_path)
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.SliceThickness, dataset.SpacingBetweenSlices = None, "1.5"
        dataset.save_as(path)
    built = case(paths)
    check(built.context, built.labels, built.contents)


def test_a_repeat_gives_the_same_bytes(tmp_path: Path) -> None:
    """The same job makes the same objects, so that a resend is no second result."""
    paths = brain(tmp_path)
    assert case(paths).contents == case(paths).contents
