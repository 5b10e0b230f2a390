"""What holds of spoiled series and of the real files."""

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.errors import InvalidDicomError

from dicom_fixtures import broken
from dicom_fixtures.broken import FAULTS, PRIVATE_SOP_CLASS, in_order
from dicom_fixtures.multiframe import make_multiframe
from dicom_fixtures.real import path
from dicom_fixtures.studies import StudyRequest, make_brain_mri, make_petct

COARSE = (6.0, 3.0, 3.0)
LOSSY = {"50", "51", "81", "91"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound FLAIR series and a sound PET series, made once."""
    root = tmp_path_factory.mktemp("whole")
    make_brain_mri(StudyRequest(seed=3, spacing=COARSE), root)
    make_petct(StudyRequest(seed=3, spacing=(8.0, 8.0, 8.0), ct_spacing=(8.0, 8.0, 8.0)), root)
    return root / "dicom"


@pytest.fixture
def flair(whole: Path, tmp_path: Path) -> Path:
    """A copy of the FLAIR series to spoil."""
    return Path(shutil.copytree(whole / "FLAIR", tmp_path / "FLAIR"))


def headers(folder: Path) -> Iterator[pydicom.FileDataset]:
    return (pydicom.dcmread(p, stop_before_pixels=True) for p in sorted(folder.glob("*.dcm")))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_spoils_alike_every_time(fault: str, whole: Path, tmp_path: Path) -> None:
    """Two copies of one series come out equal, and other than the sound one."""
    source = whole / ("PET" if fault.startswith("forget") else "FLAIR")
    made = []
    for name in ("a", "b"):
        folder = Path(shutil.copytree(source, tmp_path / name))
        FAULTS[fault](folder)
        made.append({p.name: p.read_bytes() for p in sorted(folder.iterdir())})
    assert made[0] == made[1]
    assert made[0] != {p.name: p.read_bytes() for p in sorted(source.iterdir())}


def test_dropping_a_slice_leaves_one_gap(flair: Path) -> None:
    """Exactly one step between neighbours is twice the others."""
    broken.drop_slice(flair)
    heights = [float(pydicom.dcmread(p).ImagePositionPatient[2]) for p in in_order(flair)]
    steps = np.diff(heights) / min(np.diff(heights))
    assert Counter(np.round(steps).astype(int).tolist())[2] == 1


def test_a_truncated_file_has_fewer_pixels_than_it_says(flair: Path) -> None:
    """Its header reads, its pixels do not."""
    broken.truncate(flair)
    short = min(flair.iterdir(), key=lambda p: p.stat().st_size)
    assert pydicom.dcmread(short, stop_before_pixels=True).Rows
    with pytest.raises((ValueError, EOFError, AttributeError)):
        _ = pydicom.dcmread(short).pixel_array


@pytest.mark.parametrize(("fault", "contents"), [("repeat-equal", 1), ("repeat-altered", 2)])
def test_a_repeat_keeps_the_uid(fault: str, contents: int, flair: Path) -> None:
    """One SOP Instance UID stands in two files, of one content or two."""
    FAULTS[fault](flair)
    uid, count = Counter(ds.SOPInstanceUID for ds in headers(flair)).most_common(1)[0]
    same = {p.read_bytes() for p in flair.glob("*.dcm") if pydicom.dcmread(p).SOPInstanceUID == uid}
    assert (count, len(same)) == (2, contents)


def test_four_dimensions_hold_every_position_twice(flair: Path) -> None:
    """Positions repeat, SOP Instance UIDs do not."""
    broken.make_4d(flair)
    all_headers = list(headers(flair))
    assert set(Counter(tuple(ds.ImagePositionPatient) for ds in all_headers).values()) == {2}
    assert len({ds.SOPInstanceUID for ds in all_headers}) == len(all_headers)
    assert {ds.TemporalPositionIdentifier for ds in all_headers} == {1, 2}


def test_what_a_fault_says_is_there(whole: Path, tmp_path: Path) -> None:
    """Localizer, mixed planes, second patient and private class are written as named."""
    made = {}
    for fault in ("make-localizer", "mix-orientations", "mix-patients", "add-private"):
        made[fault] = Path(shutil.copytree(whole / "FLAIR", tmp_path / fault))
        FAULTS[fault](made[fault])
    assert [ds.ImageType[2] for ds in headers(made["make-localizer"])] == ["LOCALIZER"] * 3
    assert len({tuple(ds.ImageOrientationPatient) for ds in headers(made["mix-orientations"])}) == 2
    assert len({ds.PatientID for ds in headers(made["mix-patients"])}) == 2
    assert PRIVATE_SOP_CLASS in {ds.SOPClassUID for ds in headers(made["add-private"])}


def test_pet_without_weight_or_dose(whole: Path, tmp_path: Path) -> None:
    """Weight stays as an empty attribute, dose is gone."""
    light, cold = (Path(shutil.copytree(whole / "PET", tmp_path / name)) for name in ("light", "cold"))
    broken.forget_weight(light)
    broken.forget_dose(cold)
    assert all(ds.PatientWeight is None for ds in headers(light))
    assert all("RadionuclideTotalDose" not in ds.RadiopharmaceuticalInformationSequence[0] for ds in headers(cold))


def test_strays_are_not_dicom(flair: Path) -> None:
    """None of the added files reads as a data set with a SOP class."""
    before = set(flair.iterdir())
    broken.add_strays(flair)
    for stray in set(flair.iterdir()) - before:
        try:
            assert "SOPClassUID" not in pydicom.dcmread(stray)
        except (InvalidDicomError, EOFError):
            continue


def test_a_multiframe_holds_the_slices_in_order(flair: Path) -> None:
    """Frames and their positions are those of the classic series, from low to high."""
    slices = [pydicom.dcmread(p) for p in in_order(flair)]
    made = pydicom.dcmread(make_multiframe(flair))
    np.testing.assert_array_equal(made.pixel_array, np.stack([ds.pixel_array for ds in slices]))
    frames = made.PerFrameFunctionalGroupsSequence
    assert [f.PlanePositionSequence[0].ImagePositionPatient for f in frames] == [
        ds.ImagePositionPatient for ds in slices
    ]
    assert len(list(flair.iterdir())) == 1


@pytest.mark.peers
def test_dciodvfy_finds_no_error_in_the_multiframe(flair: Path) -> None:
    """The Enhanced MR passes David Clunie's validator."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (Debian dicom3tools) is not installed")
    made = make_multiframe(flair)
    told = subprocess.run(["dciodvfy", str(made)], capture_output=True, text=True, check=False).stderr
    assert [line for line in told.splitlines() if line.startswith("Error")] == []


def test_only_classic_mr_becomes_multiframe(whole: Path, tmp_path: Path) -> None:
    """A PET series is refused and left as it was."""
    folder = Path(shutil.copytree(whole / "PET", tmp_path / "PET"))
    before = sorted(folder.iterdir())
    with pytest.raises(ValueError, match="not a classic MR"):
        make_multiframe(folder)
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(("folder", "count"), [("ct-transfer-syntaxes", 13), ("mr-transfer-syntaxes", 7)])
def test_lossless_transfer_syntaxes_decode_alike(folder: str, count: int) -> None:
    """Each file is in the syntax that its name says; the lossless ones hold equal pixels."""
    files = sorted(path(folder).glob("*.dcm"))
    assert len(files) == count
    pixels = []
    for file in files:
        ds = pydicom.dcmread(file)
        assert ds.file_meta.TransferSyntaxUID == file.stem
        if file.stem.rsplit(".", 1)[1] not in LOSSY:
            pixels.append(ds.pixel_array)
    assert all(np.array_equal(pixels[0], other) for other in pixels)


def test_real_files_stay_few_and_licensed() -> None:
    """Under 6 MB in all, every folder with its licence, every oracle readable."""
    root = path(".")
    assert sum(p.stat().st_size for p in root.rglob("*") if p.is_file()) < 6 * 2**20
    folders = [p for p in root.iterdir() if p.is_dir() and p.name != "__pycache__"]
    assert all((folder / "LICENSE").is_file() for folder in folders)
    assert len([json.loads(p.read_text(encoding="utf-8")) for p in path("suv-oracle").glob("*.json")]) == 8


def test_an_unknown_real_file_is_named() -> None:
    """The error says what was asked for and what there is."""
    with pytest.raises(FileNotFoundError, match=r"nope.*mr-enhanced"):
        path("nope")
