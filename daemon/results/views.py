"""A slice of the source as pixels of a picture: sampled, windowed, with CT beneath PET where there is one."""

from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from daemon.imaging.suv import in_units, suv_factors
from daemon.imaging.volume import Grid, Volume
from daemon.results.context import ResultContext

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]
# SUV g/ml as PET is read, HU as soft tissue is.
SUV_WINDOW = (0.0, 7.0)
CT_WINDOW = (-160.0, 240.0)
_MR_PERCENTILES = (1.0, 99.5)
_AXES = (("R", "L"), ("A", "P"), ("F", "H"))
# Nine even steps of matplotlib's inferno and cividis (CC0), whose colours tell apart for every kind of colour vision.
INFERNO = (
    (0, 0, 4), (33, 12, 74), (87, 16, 110), (138, 34, 106), (188, 55, 84), (228, 90, 49), (249, 142, 9), (249, 203, 53),
    (252, 255, 164),
)  # fmt: skip
CIVIDIS = (
    (0, 34, 78), (26, 56, 111), (67, 78, 108), (97, 101, 111), (125, 124, 120), (155, 148, 118), (188, 174, 108),
    (222, 201, 88), (254, 232, 56),
)  # fmt: skip
Colours = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, kw_only=True)
class View:
    """Slice `index` fitted into a box; `grid` holds its square pixels, one slice of height x width."""

    index: int
    grid: Grid

    @property
    def mm(self) -> float:
        """Return the size of a pixel in mm."""
        return self.grid.spacing[1]

    @property
    def size(self) -> tuple[int, int]:
        """Return width and height in pixels."""
        return self.grid.size[2], self.grid.size[1]

    @classmethod
    def fitted(cls, grid: Grid, index: int, box: tuple[int, int]) -> "View":
        """Return the view of slice `index` that fits the `box` (width, height), its whole extent to see."""
        rows, columns = grid.size[1] * grid.spacing[1], grid.size[2] * grid.spacing[2]
        mm = max(columns / box[0], rows / box[1])
        size = (1, max(int(rows / mm), 1), max(int(columns / mm), 1))
        first = np.array([[index, (mm / grid.spacing[1] - 1) / 2, (mm / grid.spacing[2] - 1) / 2]])
        x, y, z = grid.points(first)[0]
        fitted = replace(grid, size=size, spacing=(grid.spacing[0], mm, mm), origin=(float(x), float(y), float(z)))
        return cls(index=index, grid=fitted)

    def sample(self, volume: Volume, outside: float = 0.0) -> Array:
        """Return `volume` at the pixels (height, width), linear between its voxels."""
        target = self.grid.blank()
        linear = sitk.Resample(volume.image(), target, sitk.Transform(), sitk.sitkLinear, outside)
        return np.asarray(sitk.GetArrayFromImage(linear)[0], dtype=np.float32)

    def of_slice(self, voxels: Array, grid: Grid) -> Array:
        """Return the view's slice of `voxels` (slices, rows, columns) on the source `grid` at the pixels."""
        x, y, z = grid.points(np.array([[self.index, 0, 0]]))[0]
        alone = replace(grid, size=(1, *grid.size[1:]), origin=(float(x), float(y), float(z)))
        part = np.ascontiguousarray(voxels[self.index : self.index + 1], dtype=np.float32)
        return self.sample(Volume(voxels=part, grid=alone))

    def corners(self, line: NDArray[np.float64], grid: Grid) -> NDArray[np.float64]:
        """Return points (column, row) of the source grid's pixel corners as points (x, y) of the view."""
        return np.asarray(line * np.array([grid.spacing[2], grid.spacing[1]]) / self.mm)


@dataclass(frozen=True, kw_only=True, eq=False)
class Backdrop:
    """What lies beneath the marks, RGB (height, width, 3): the source `alone`, and `fused` with its CT if it has one.

    `quiet` is what maps are laid over; `window` says how the source is shown, in plain words.
    """

    alone: Pixels
    fused: Pixels
    quiet: Pixels
    window: str


def backdrop(context: ResultContext, view: View) -> Backdrop:
    """Return the slice as a radiologist expects it: MR as its header says; PET dark on white, and in colour on CT."""
    if not _is_pet(context):
        low, high = window(context, view.index)
        shown = grey(view.of_slice(context.source.volume.voxels, context.source.volume.grid), low, high)
        return Backdrop(alone=shown, fused=shown, quiet=shown, window=f"window {low:.0f} to {high:.0f}")
    hot = _unit(view.of_slice(in_units("PET", context.source).voxels, context.source.volume.grid), *SUV_WINDOW)
    alone = grey(1 - hot, 0, 1)
    beneath = grey(view.sample(context.others[0].volume, -1000), *CT_WINDOW) if context.others else alone
    return Backdrop(
        alone=alone,
        fused=laid(beneath, hot, INFERNO, full=0.35) if context.others else alone,
        quiet=beneath,
        window=f"SUV {SUV_WINDOW[0]:.0f} to {SUV_WINDOW[1]:.0f}",
    )


def grey(values: Array, low: float, high: float) -> Pixels:
    """Return values as grey RGB, black at `low`, white at `high`."""
    level = np.rint(255 * _unit(values, low, high)).astype(np.uint8)
    return np.repeat(level[..., None], 3, axis=2)


def coloured(values: Array, colours: Colours) -> Pixels:
    """Return values 0..1 in colours that are even steps of it."""
    at = np.linspace(0, 1, len(colours))
    channels = [np.interp(values, at, [colour[n] for colour in colours]) for n in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def laid(beneath: Pixels, values: Array, colours: Colours, full: float = 0.2) -> Pixels:
    """Return values 0..1 in colours over a picture, opaque by four fifths from `full` on, not at all at 0."""
    opaque = 0.8 * np.clip(values / full, 0, 1)[..., None]
    return np.rint((1 - opaque) * beneath + opaque * coloured(values, colours)).astype(np.uint8)


def letters(grid: Grid) -> tuple[str, str, str, str]:
    """Return where left, right, top and bottom of a slice lie in the patient: R, L, A, P, H or F."""
    sides: list[str] = []
    for axis in (grid.axes[2], grid.axes[1]):
        most = int(np.argmax(np.abs(axis)))
        ends = _AXES[most] if axis[most] > 0 else _AXES[most][::-1]
        sides.extend(ends)
    return sides[0], sides[1], sides[2], sides[3]


def _unit(values: Array, low: float, high: float) -> Array:
    return np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)


def window(context: ResultContext, index: int) -> tuple[float, float]:
    """Return the values, in the modality's units, that are black and white in slice `index` (PET: white and black)."""
    if not _is_pet(context):
        return _mr_window(context, index)
    factor = float(suv_factors(context.source.headers)[_instance(context, index)])
    return SUV_WINDOW[0] / factor, SUV_WINDOW[1] / factor


def _is_pet(context: ResultContext) -> bool:
    return context.bundle.manifest.recipe.channels[0].role == "PET"


def _instance(context: ResultContext, index: int) -> int:
    """Return which of the source's headers is that of slice `index`."""
    uid = context.source.frames[index].sop_instance_uid
    return next(n for n, header in enumerate(context.source.headers) if header.SOPInstanceUID == uid)


def _mr_window(context: ResultContext, index: int) -> tuple[float, float]:
    """Return the header's window where it shows something of the slice, else nearly the whole range of the volume."""
    frame = context.source.frames[index]
    header = context.source.header_of(index)
    values = context.source.volume.voxels[index]
    centre, width = (_first(_voi(header, frame.frame_number).get(name)) for name in ("WindowCenter", "WindowWidth"))
    if centre is not None and width is not None and width > 1:
        low, high = centre - width / 2, centre + width / 2
        if low < np.percentile(values, 99) and high > np.percentile(values, 50):
            return low, high
    low, high = (float(v) for v in np.percentile(context.source.volume.voxels, _MR_PERCENTILES))
    return low, max(high, low + 1)


def _voi(header: Dataset, frame_number: int | None) -> Dataset:
    """Return where the window stands: in the header, or in a frame's or the shared functional groups."""
    if frame_number is None:
        return header
    groups = (header.PerFrameFunctionalGroupsSequence[frame_number - 1], header.SharedFunctionalGroupsSequence[0])
    found = [group.FrameVOILUTSequence[0] for group in groups if group.get("FrameVOILUTSequence")]
    return found[0] if found else header


def _first(value: object) -> float | None:
    if isinstance(value, MultiValue):
        value = value[0] if value else None
    try:
        return None if value is None else float(str(value))
    except ValueError:
        return None
