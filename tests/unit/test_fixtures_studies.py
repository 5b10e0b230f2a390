"""What holds of fixture studies on disk."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from typer.testing import CliRunner

from dicom_fixtures.__main__ import app
from dicom_fixtures.broken import in_order
from dicom_fixtures.headers import Patient
from dicom_fixtures.planes import Layout, Orientation
from dicom_fixtures.studies import StudyRequest, StudyTruth, make_brain_mri, make_petct

COARSE = (6.0, 3.0, 3.0)
TURNED = (0.8, 0.6, 0.0, -0.5, 0.7, 0.4)


def head(out: Path, **changes: object) -> StudyTruth:
    return make_brain_mri(StudyRequest(seed=16, spacing=COARSE, **changes), out)  # type: ignore[arg-type]


def trunk(out: Path) -> StudyTruth:
    spacing = (6.0, 6.0, 6.0)
    return make_petct(StudyRequest(seed=7, spacing=spacing, ct_spacing=(6.0, 4.0, 4.0)), out)


def read(folder: Path) -> sitk.Image:
    """Return the series as an independent reader sees it."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def contrast(voxels: NDArray[np.float64], inside: NDArray[np.bool_]) -> float:
    """Return the mean under a mask over the mean of the shell round it."""
    wide = sitk.GetArrayFromImage(sitk.BinaryDilate(sitk.GetImageFromArray(inside.astype(np.uint8)), [4, 4, 2])) > 0
    return float(voxels[inside].mean() / voxels[wide & ~inside].mean())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    """Files, names and truth are equal; a salt gives other UIDs to equal pixels."""
    first, again, salted = (head(tmp_path / name, salt=salt) for name, salt in (("a", ""), ("b", ""), ("c", "x")))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert first.study_instance_uid == again.study_instance_uid != salted.study_instance_uid
    one, other = (pydicom.dcmread(truth.series["FLAIR"][0]) for truth in (first, salted))
    assert one.PixelData == other.PixelData
    assert one.SOPInstanceUID != other.SOPInstanceUID


@pytest.mark.parametrize(
    "layout",
    [*(Layout(orientation=o, spacing=COARSE) for o in Orientation), Layout(cosines=TURNED, spacing=COARSE)],
    ids=lambda layout: "turned" if layout.cosines else layout.orientation.value,
)
@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
def test_the_truth_lies_on_the_tumour_in_every_plane(layout: Layout, descending: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """The mask, and no mirror image of it, covers what is bright in the series as SimpleITK reads it."""
    truth = head(tmp_path, layout=layout, descending=descending)
    flair, mask = read(truth.folder / "FLAIR"), sitk.ReadImage(str(truth.mask))
    assert flair.GetSize() == mask.GetSize()
    there = sitk.Resample(flair, mask, sitk.Transform(), sitk.sitkNearestNeighbor, 0.0)
    voxels, inside = sitk.GetArrayFromImage(there), sitk.GetArrayFromImage(mask) > 0
    np.testing.assert_array_equal(np.sort(voxels, axis=None), np.sort(sitk.GetArrayFromImage(flair), axis=None))
    assert contrast(voxels, inside) > 1.5
    assert max(contrast(voxels, np.flip(inside, axis)) for axis in range(3)) < 1.35


def test_the_truth_lies_where_the_lesion_table_says(tmp_path: Path) -> None:
    """Centroid and volume of the mask file agree with the table, in LPS and millilitres."""
    truth = trunk(tmp_path)
    table = json.loads(truth.lesions.read_text(encoding="utf-8"))
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(sitk.ReadImage(str(truth.mask)))
    lesion = table["lesions"][0]
    np.testing.assert_allclose(shape.GetCentroid(1), lesion["centre_mm"], atol=1.0)
    assert shape.GetPhysicalSize(1) / 1000 == pytest.approx(lesion["volume_ml"], rel=0.02)
    assert table["series_instance_uids"] == truth.series_uids


def test_pet_and_ct_share_study_and_frame_of_reference(tmp_path: Path) -> None:
    """They differ in series and grid, and PET activity turns back into the SUV of the truth."""
    truth = trunk(tmp_path)
    pet, ct = (pydicom.dcmread(in_order(truth.folder / name)[0]) for name in ("PET", "CT"))
    assert pet.StudyInstanceUID == ct.StudyInstanceUID == truth.study_instance_uid
    assert pet.FrameOfReferenceUID == ct.FrameOfReferenceUID
    assert (pet.SeriesInstanceUID, ct.SeriesInstanceUID) == (truth.series_uids["PET"], truth.series_uids["CT"])
    assert pet.PixelSpacing != ct.PixelSpacing
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(truth.mask))) > 0
    drug = pet.RadiopharmaceuticalInformationSequence[0]
    left = float(drug.RadionuclideTotalDose) * 2 ** (-3600 / float(drug.RadionuclideHalfLife))
    slices = [pydicom.dcmread(path) for path in in_order(truth.folder / "PET")]
    activity = np.stack([ds.pixel_array * float(ds.RescaleSlope) for ds in slices])
    suv = activity * float(pet.PatientWeight) * 1000 / left
    stated = json.loads(truth.lesions.read_text(encoding="utf-8"))["lesions"][0]["suv_max"]
    assert suv[mask].max() == pytest.approx(stated, rel=0.02)


def test_names_beyond_ascii_survive(tmp_path: Path) -> None:
    """A name in another script reads back as it was given."""
    name = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    patient = Patient(name=name, patient_id="FX-JP", charset=["", "ISO 2022 IR 87"])
    truth = head(tmp_path, patient=patient)
    assert str(pydicom.dcmread(truth.series["FLAIR"][0]).PatientName) == name


def test_slices_may_have_any_number_of_rows_and_columns(tmp_path: Path) -> None:
    """A matrix that is no multiple of 8 is written as asked, the mask with it."""
    truth = head(tmp_path, layout=Layout(spacing=COARSE, matrix=(61, 53)))
    ds = pydicom.dcmread(truth.series["FLAIR"][0])
    assert (ds.Rows, ds.Columns) == (61, 53)
    assert sitk.ReadImage(str(truth.mask)).GetSize()[:2] == (53, 61)


@pytest.mark.peers
def test_dciodvfy_finds_no_error(tmp_path: Path) -> None:
    """MR of every contrast, CT and PET pass David Clunie's validator."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (Debian dicom3tools) is not installed")
    mr = head(tmp_path / "mr", contrasts=("FLAIR", "T2", "T1", "T1C"))
    for path in [paths[0] for truth in (mr, trunk(tmp_path / "pt")) for paths in truth.series.values()]:
        told = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False).stderr
        assert [line for line in told.splitlines() if line.startswith("Error")] == [], path


def test_the_command_writes_a_normal_study(tmp_path: Path) -> None:
    """`make` answers in JSON where the study and its truth lie; a normal study has an empty mask."""
    asked = ["make", "brain-mri", "--out", str(tmp_path), "--lesions", "0", "--spacing", "6,3,3", "--json"]
    told = CliRunner().invoke(app, asked)
    assert told.exit_code == 0, told.output
    document = json.loads(told.stdout)
    assert document["series"]["FLAIR"] == len(list((tmp_path / "dicom" / "FLAIR").iterdir()))
    assert not sitk.GetArrayFromImage(sitk.ReadImage(document["mask"])).any()


def test_the_command_names_a_wrong_spacing(tmp_path: Path) -> None:
    """Two numbers are no spacing."""
    told = CliRunner().invoke(app, ["make", "brain-mri", "--out", str(tmp_path), "--spacing", "6,3"])
    assert told.exit_code == 2
    assert "6,3" in told.output
