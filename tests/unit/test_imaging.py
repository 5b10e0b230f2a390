"""Reading series, preparing them, and measuring what was found."""

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

from daemon.domain.reasons import Reason
from daemon.errors import UnprocessableError
from daemon.imaging.lesions import Maps, measure
from daemon.imaging.read import read_series
from daemon.imaging.steps import model_grid, neighbour_stack, prepare, to_grid
from daemon.imaging.volume import Grid, Volume
from dicom_fixtures.planes import Layout, Orientation
from dicom_fixtures.studies import StudyRequest, make_brain_mri
from tests.manifests import BRAIN
from tests.shared import files, shared

COARSE = (6.0, 3.0, 3.0)


@pytest.fixture(scope="module", params=list(Orientation))
def oriented(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One head series in each orientation."""
    layout = Layout(orientation=request.param, spacing=COARSE)
    out = tmp_path_factory.mktemp("oriented")
    return make_brain_mri(StudyRequest(seed=3, spacing=COARSE, layout=layout), out).series["FLAIR"]


@pytest.fixture
def axial(tmp_path: Path) -> list[Path]:
    """A small axial head series."""
    return make_brain_mri(StudyRequest(seed=3, spacing=COARSE), tmp_path / "axial").series["FLAIR"]


def test_a_series_in_any_orientation_becomes_one_volume(oriented: list[Path]) -> None:
    """Slices are sorted along row x column, and every voxel lies where its instance says."""
    series = read_series(oriented)
    for index in (0, len(series.frames) - 1):
        header = pydicom.dcmread(series.frames[index].path, stop_before_pixels=True)
        at = series.volume.grid.points(np.array([[index, 0, 0]]))[0]
        assert at == pytest.approx([float(v) for v in header.ImagePositionPatient], abs=1e-3)
    assert len({f.sop_instance_uid for f in series.frames}) == len(oriented)


def test_what_is_found_on_the_model_grid_comes_back_to_its_place(oriented: list[Path]) -> None:
    """A ball in patient space, taken to the model grid and back, covers the same source voxels."""
    grid = read_series(oriented).volume.grid
    centre = grid.points(np.array([[n // 2 for n in grid.size]]))[0] + (9.0, -12.0, 6.0)
    indices = np.indices(grid.size).reshape(3, -1).T
    near = np.linalg.norm(grid.points(indices) - centre, axis=1) < 25
    ball = near.reshape(grid.size).astype(np.float32)
    model = model_grid(grid, BRAIN.recipe)
    again = to_grid(to_grid(ball, grid, model), model, grid) > 0.5
    assert 2 * (again & (ball > 0)).sum() / (again.sum() + ball.sum()) > 0.93


def test_prepared_input_is_padded_and_stacked_by_neighbours(axial: list[Path]) -> None:
    """Rows and columns are multiples of 16; beyond the edge the last slice repeats."""
    prepared = prepare({"MR": read_series(axial).volume}, BRAIN.recipe)
    assert all(n % 16 == 0 for n in prepared.array.shape[2:])
    stack = neighbour_stack(prepared.array, BRAIN.recipe, np.array([0, 5]))
    assert stack.shape[:2] == (2, 5)
    assert np.array_equal(stack[0, 0], stack[0, 2])
    assert np.array_equal(stack[1, 3], prepared.array[0, 6])


def spoil(path: Path, **changes: object) -> None:
    dataset = pydicom.dcmread(path)
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)


def reason(paths: list[Path]) -> str:
    with pytest.raises(UnprocessableError) as caught:
        read_series(paths)
    return caught.value.reason


def in_order(paths: list[Path]) -> list[Path]:
    return sorted(paths, key=lambda p: float(pydicom.dcmread(p, stop_before_pixels=True).ImagePositionPatient[2]))


def test_a_missing_slice_is_named(axial: list[Path]) -> None:
    """A gap in the stack is MISSING_SLICES."""
    ordered = in_order(axial)
    assert reason(ordered[:8] + ordered[9:]) == Reason.MISSING_SLICES


def test_a_single_slice_is_no_volume(axial: list[Path]) -> None:
    """One slice is TOO_FEW_SLICES."""
    assert reason(axial[:1]) == Reason.TOO_FEW_SLICES


def test_mixed_orientations_are_named(axial: list[Path]) -> None:
    """One tilted slice is MIXED_ORIENTATIONS."""
    spoil(axial[4], ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    assert reason(axial) == Reason.MIXED_ORIENTATIONS


def test_repeated_positions_are_four_dimensional(axial: list[Path], tmp_path: Path) -> None:
    """A second time point at the same positions is FOUR_D."""
    copies = [Path(shutil.copy(p, tmp_path / f"again-{p.name}")) for p in axial]
    for path in copies:
        spoil(path, SOPInstanceUID=pydicom.uid.generate_uid(), TemporalPositionIdentifier=2)
    assert reason([*axial, *copies]) == Reason.FOUR_D


def test_other_matrix_sizes_are_named(axial: list[Path]) -> None:
    """A slice with another pixel spacing is INCONSISTENT_GEOMETRY."""
    spoil(axial[4], PixelSpacing=[2.0, 2.0])
    assert reason(axial) == Reason.INCONSISTENT_GEOMETRY


def test_a_spacing_written_with_another_last_digit_is_the_same(axial: list[Path]) -> None:
    """0.7812501 among 0.78125, which lies between two roundings, is one spacing."""
    for path in axial:
        spoil(path, PixelSpacing=[0.78125, 0.78125])
    spoil(axial[2], PixelSpacing=[0.7812501, 0.78125])
    assert read_series(axial).volume.grid.spacing[1:] == pytest.approx((0.78125, 0.78125), abs=1e-6)


def test_a_truncated_file_is_unreadable(axial: list[Path]) -> None:
    """Half a slice is UNREADABLE_PIXELS, not a crash."""
    content = axial[4].read_bytes()
    axial[4].write_bytes(content[: len(content) // 2])
    assert reason(axial) == Reason.UNREADABLE_PIXELS


def test_a_missing_position_is_named(axial: list[Path]) -> None:
    """A slice without position is NO_GEOMETRY."""
    spoil(axial[4], ImagePositionPatient=None)
    assert reason(axial) == Reason.NO_GEOMETRY


@pytest.mark.shared
def test_one_slice_in_seven_transfer_syntaxes_has_equal_pixels() -> None:
    """Every transfer syntax decodes to the same values."""
    decoded = {}
    for path in files(shared("dicom", "mr-transfer-syntaxes")):
        try:
            dataset = pydicom.dcmread(path)
        except pydicom.errors.InvalidDicomError:
            continue
        syntax = dataset.file_meta.TransferSyntaxUID
        if "PixelData" in dataset:
            decoded[syntax.name] = (dataset.pixel_array, "Lossy" in syntax.name or "Baseline" in syntax.name)
    plain = next(pixels for name, (pixels, _) in decoded.items() if "Little Endian" in name)
    lossless = [pixels for pixels, lossy in decoded.values() if not lossy]
    assert len(lossless) >= 5
    assert all(np.array_equal(pixels, plain) for pixels in lossless)


@pytest.mark.shared
def test_a_real_head_is_read_whole() -> None:
    """130 GE slices make a volume of 130 x 256 x 256 at their spacing."""
    series = read_series(files(shared("dicom", "mr-ge-t1-mprage")))
    assert series.volume.grid.size == (130, 256, 256)
    assert series.volume.grid.spacing == pytest.approx((1.2, 0.9375, 0.9375), abs=1e-4)


GRID = Grid(size=(20, 40, 40), spacing=(2.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0))


def test_lesions_are_measured_in_the_patient() -> None:
    """Two boxes give two lesions, largest first, with volume, extent and centre in mm."""
    probability = np.zeros(GRID.size, dtype=np.float32)
    probability[4:9, 10:20, 10:20] = 0.9
    probability[12:14, 30:34, 30:34] = 0.8
    probability[0, 0, 0] = 0.9
    maps = Maps(probability=probability, sd=np.full(GRID.size, 0.1, np.float32))
    lesions, labels = measure(maps, GRID, 0.5, 0.01)
    assert [round(lesion.volume_ml, 3) for lesion in lesions] == [1.0, 0.064]
    assert lesions[0].centre_mm == pytest.approx((14.5, 14.5, 12.0))
    assert lesions[0].bounds_mm == ((10.0, 10.0, 8.0), (19.0, 19.0, 16.0))
    assert lesions[0].volume_sd_ml == pytest.approx(0.1)
    assert labels.max() == 2
    assert labels[0, 0, 0] == 0


def test_uptake_of_a_hot_ball() -> None:
    """SUVmax, mean, MTV and TLG by hand; SUVpeak is below SUVmax for a single hot voxel."""
    inside = np.zeros(GRID.size, dtype=bool)
    inside[5:15, 10:30, 10:30] = True
    suv = np.where(inside, 4.0, 0.5).astype(np.float32)
    suv[10, 20, 20] = 12.0
    maps = Maps(probability=inside.astype(np.float32), sd=np.zeros(GRID.size, np.float32), suv=suv)
    lesions, _ = measure(maps, GRID, 0.5, 0.1)
    uptake = lesions[0].uptake
    assert uptake is not None
    assert uptake.suv_max == 12.0
    assert uptake.mtv_ml == pytest.approx(8.0)
    assert uptake.tlg == pytest.approx(uptake.suv_mean * 8.0)
    assert 4.0 < uptake.suv_peak < 5.0


def test_an_empty_map_has_no_lesion() -> None:
    """Nothing above the threshold is no lesion and an empty label map."""
    empty = np.zeros(GRID.size, dtype=np.float32)
    lesions, labels = measure(Maps(probability=empty, sd=empty), GRID, 0.5, 0.1)
    assert lesions == ()
    assert not labels.any()


def test_volume_keeps_its_place_through_simpleitk() -> None:
    """A volume that goes to SimpleITK and back has the same grid and voxels."""
    axes = ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0), (1.0, 0.0, 0.0))
    grid = Grid(size=(3, 4, 5), spacing=(2.0, 1.5, 1.0), origin=(1.0, 2.0, 3.0), axes=axes)
    volume = Volume(voxels=np.arange(60, dtype=np.float32).reshape(3, 4, 5), grid=grid)
    again = Volume.of(volume.image())
    assert again.grid == grid
    assert np.array_equal(again.voxels, volume.voxels)
