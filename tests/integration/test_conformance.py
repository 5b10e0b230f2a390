"""Result objects over a matrix of sources: independent readers agree, validators find no error."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from daemon.domain.output import OutputKind
from daemon.domain.reasons import Reason
from daemon.errors import UnprocessableError
from daemon.results.check import check
from dicom_fixtures.headers import Patient
from dicom_fixtures.planes import Layout, Orientation
from dicom_fixtures.studies import StudyRequest, make_brain_mri, make_petct
from tests.manifests import PETCT
from tests.outlines import outlined
from tests.peers import need
from tests.sources import COARSE, Case, case

JAPANESE = Patient(name="Yamada^Tarou=山田^太郎=やまだ^たろう", patient_id="FX-JP", charset=["", "ISO 2022 IR 87"])
# Pixelmed asks for Laterality whenever a body part is named; PS3.3 C.7.3.1 only where the part is paired.
UNPAIRED = "Error: GeneralSeriesModule/Laterality"
NAMELESS = Patient(name="", patient_id="", birth_date="")


def brain(out: Path, orientation: Orientation = Orientation.AXIAL, **request: object) -> list[Path]:
    matrix = request.pop("matrix", (64, 64))
    layout = Layout(orientation=orientation, spacing=COARSE, matrix=matrix)  # type: ignore[arg-type]
    wanted = StudyRequest(seed=3, spacing=COARSE, layout=layout, **request)  # type: ignore[arg-type]
    return make_brain_mri(wanted, out).series["FLAIR"]


MATRIX = {
    "axial": lambda out: case(brain(out)),
    "coronal": lambda out: case(brain(out, Orientation.CORONAL)),
    "sagittal": lambda out: case(brain(out, Orientation.SAGITTAL)),
    "oblique": lambda out: case(brain(out, Orientation.OBLIQUE)),
    "negative cosines": lambda out: case(brain(out, Orientation.FLIPPED)),
    "descending": lambda out: case(brain(out, descending=True)),
    "odd matrix": lambda out: case(brain(out, matrix=(61, 63))),
    "one voxel": lambda out: case(brain(out), mask=_one_voxel()),
    "many lesions": lambda out: case(brain(out), count=5),
    "no lesion": lambda out: case(brain(out), count=0),
    "japanese name": lambda out: case(brain(out, patient=JAPANESE)),
    "empty type 2": lambda out: case(brain(out, patient=NAMELESS)),
    "petct": lambda out: case(make_petct(StudyRequest(seed=2), out).series["PET"], count=2, manifest=PETCT),
}


def _one_voxel() -> np.ndarray:
    mask = np.zeros((31, 64, 64), dtype=bool)
    mask[12, 20, 30] = True
    return mask


@pytest.fixture(scope="module", params=list(MATRIX))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Path]:
    """One case of the matrix, its objects on disk."""
    folder = tmp_path_factory.mktemp("case")
    built = MATRIX[request.param](folder)
    for kind, content in built.contents.items():
        (folder / f"{kind.value}.dcm").write_bytes(content)
    return built, folder


def objects(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.dcm"))


def test_the_gate_passes_and_repeats_are_equal(made: tuple[Case, Path]) -> None:
    """Sound objects pass the gate."""
    built, _ = made
    check(built.context, built.labels, built.contents)


def test_dciodvfy_finds_no_error(made: tuple[Case, Path]) -> None:
    """David Clunie's validator finds no error in SEG or SR."""
    need("dciodvfy")
    for path in objects(made[1]):
        told = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, errors="replace", check=False)
        errors = [line for line in (told.stdout + told.stderr).splitlines() if line.startswith("Error")]
        # Type 2 attributes that the source leaves empty stay empty, and that is no error of ours.
        assert errors == [], path.name


def test_patient_and_study_are_copied_verbatim(made: tuple[Case, Path]) -> None:
    """Names come out as they went in, in their character set; nothing is invented."""
    source = made[0].context.source.header
    for path in objects(made[1]):
        dataset = pydicom.dcmread(path)
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "AccessionNumber"):
            assert str(dataset.get(keyword)) == str(source.get(keyword)), keyword
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


def test_dcmqi_reads_the_same_numbers(made: tuple[Case, Path], tmp_path: Path) -> None:
    """tid1500reader finds probability, volume and the rest as they were found."""
    built, folder = made
    if not (folder / "SEG.dcm").exists():
        pytest.skip("tid1500reader reads groups with a region only")
    program = Path(sys.executable).parent / "tid1500reader"
    out = tmp_path / "sr.json"
    command = [str(program), "--inputDICOM", str(folder / "SR.dcm"), "--outputMetadata", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    items = [i for group in json.loads(out.read_text())["Measurements"] for i in group["measurementItems"]]
    values = [float(item["value"]) for item in items]
    findings = built.context.findings
    wanted = [findings.tumour_probability.mean, findings.survival[5].mean, findings.lesions[0].volume_ml]
    assert all(any(abs(v - w) < 1e-4 * max(1, w) for v in values) for w in wanted)


@pytest.mark.parametrize("name", ["axial", "many lesions", "no lesion", "petct"])
def test_pixelmed_finds_no_error(name: str, tmp_path: Path) -> None:
    """Pixelmed's validators find no error in SEG and SR."""
    need("java")
    jar = Path("/usr/share/java/pixelmed.jar")
    if not jar.exists():
        pytest.skip("pixelmed.jar is not installed; install Debian's libpixelmed-java")
    built = MATRIX[name](tmp_path)
    options = " ".join(f"-Djdk.xml.xpath{limit}Limit=0" for limit in ("TotalOp", "ExprOp", "ExprGrp"))
    for kind, content in built.contents.items():
        path = tmp_path / f"{kind.value}.dcm"
        path.write_bytes(content)
        tool = "DicomSRValidator" if kind is OutputKind.REPORT else "DicomInstanceValidator"
        told = subprocess.run(
            ["java", "-cp", "/usr/share/java/*", f"com.pixelmed.validate.{tool}", str(path)],
            capture_output=True,
            text=True,
            env={**os.environ, "JAVA_TOOL_OPTIONS": options},
            check=False,
        )
        lines = (told.stdout + told.stderr).splitlines()
        assert any("validat" in line.lower() or line.startswith(("Found", "Warning", "Root")) for line in lines), lines
        assert [line for line in lines if line.startswith("Error") and not line.startswith(UNPAIRED)] == []


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


def test_a_repeat_gives_the_same_bytes(tmp_path: Path) -> None:
    """The same job makes the same objects, so that a resend is no second result."""
    paths = brain(tmp_path)
    assert case(paths).contents == case(paths).contents
