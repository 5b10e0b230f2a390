"""Real series: enhanced multi-frame, odd geometry, compressed twins."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from daemon.domain.reasons import Reason
from daemon.errors import UnprocessableError
from daemon.imaging.read import read_series
from tests.shared import files, shared

pytestmark = pytest.mark.shared


def images(*parts: str) -> list[Path]:
    return [path for path in files(shared("dicom", *parts)) if pydicom.misc.is_dicom(path)]


def test_an_enhanced_volume_has_its_frames_in_order() -> None:
    """Frames of one multi-frame instance become slices, each with its frame number and where its group says."""
    (path,) = images("series-geometry", "philips_enhanced", "anatomical", "001")
    series = read_series([path])
    groups = pydicom.dcmread(path, stop_before_pixels=True).PerFrameFunctionalGroupsSequence
    assert len(series.frames) == len(groups) == series.volume.grid.size[0]
    for index, frame in enumerate(series.frames):
        assert frame.frame_number is not None
        position = groups[frame.frame_number - 1].PlanePositionSequence[0].ImagePositionPatient
        assert series.volume.grid.points(np.array([[index, 0, 0]]))[0] == pytest.approx(list(position), abs=1e-2)
    assert len(series.headers) == 1


def test_enhanced_values_are_rescaled_frame_by_frame() -> None:
    """Each frame's own slope and intercept turn stored into modality values."""
    (path,) = images("series-geometry", "philips_enhanced", "anatomical", "001")
    series, whole = read_series([path]), pydicom.dcmread(path)
    for index, frame in enumerate(series.frames):
        assert frame.frame_number is not None
        place = whole.PerFrameFunctionalGroupsSequence[frame.frame_number - 1].PixelValueTransformationSequence[0]
        stored = whole.pixel_array[frame.frame_number - 1]
        expected = stored * float(place.RescaleSlope) + float(place.RescaleIntercept)
        assert np.allclose(series.volume.voxels[index], expected, rtol=1e-5)


def test_one_enhanced_time_point_is_a_volume_and_several_are_not() -> None:
    """A Siemens XA time point reads alone; the series of them is 4D, as is Philips' magnitude and phase."""
    points = images("mr-enhanced", "Siemens", "XA10")
    assert read_series(points[:1]).volume.grid.size == (6, 64, 64)
    for paths in (points, images("mr-enhanced", "Philips")):
        with pytest.raises(UnprocessableError) as caught:
            read_series(paths)
        assert caught.value.reason == Reason.FOUR_D


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("failing/gantrytilting/001", Reason.INCONSISTENT_GEOMETRY),
        ("failing/slicecount/001", Reason.TOO_FEW_SLICES),
        ("failing/sliceincrement/001", Reason.MISSING_SLICES),
        ("failing/sliceincrement/002", Reason.MISSING_SLICES),
        ("failing/sliceorientation/001", Reason.MIXED_ORIENTATIONS),
        ("ge/anatomical/001_single_slice", Reason.TOO_FEW_SLICES),
        ("philips/anatomical/002", Reason.FOUR_D),
        ("generic/rgb/001", Reason.COLOUR_PIXELS),
    ],
)
def test_what_is_no_volume_is_refused_by_its_name(folder: str, reason: Reason) -> None:
    """Each broken series of the geometry collection has its own reason."""
    with pytest.raises(UnprocessableError) as caught:
        read_series(images("series-geometry", *folder.split("/")))
    assert caught.value.reason == reason


@pytest.mark.parametrize("syntax", ["compressed", "compressed_j2k", "compressed_jpeg", "compressed_jpegls"])
def test_lossless_twins_are_equal(syntax: str) -> None:
    """A series in JPEG, JPEG-LS or JPEG 2000 without loss gives the voxels and grid of its RLE twin."""
    plain = read_series(images("series-geometry", "generic", "compressed_rle", "001")).volume
    twin = read_series(images("series-geometry", "generic", syntax, "001")).volume
    assert twin.grid == plain.grid
    assert np.array_equal(twin.voxels, plain.voxels)


def test_a_volume_agrees_with_another_reader() -> None:
    """SimpleITK's own series reader (GDCM) gives the same voxels at the same places."""
    paths = images("mr-ge-t1-mprage")
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(paths[0].parent))
    other = sitk.ReadImage(names, sitk.sitkFloat32)
    ours = read_series(paths).volume.image()
    seen = sitk.Resample(other, ours, sitk.Transform(), sitk.sitkNearestNeighbor)
    assert other.GetSize() == ours.GetSize()
    assert np.array_equal(sitk.GetArrayFromImage(seen), sitk.GetArrayFromImage(ours))
