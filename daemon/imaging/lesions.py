"""Lesions: connected parts of the outline, measured in the patient."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from daemon.domain.finding import Lesion, Uptake
from daemon.imaging.volume import Grid

Array = NDArray[np.float32]
# SUVpeak's sphere of 1 ml has this radius (Wahl 2009).
_PEAK_RADIUS_MM = 6.2
# The sphere with the highest mean is centred near a hot voxel.
_PEAK_CANDIDATES = 500
_MOST_LABELS = 255


@dataclass(frozen=True, kw_only=True, eq=False)
class Maps:
    """Voxel maps on the source grid: mean tumour probability, its SD over passes, and SUV where there is a PET."""

    probability: Array
    sd: Array
    suv: Array | None = None


def measure(maps: Maps, grid: Grid, threshold: float, min_ml: float) -> tuple[tuple[Lesion, ...], NDArray[np.uint8]]:
    """Return the lesions, largest first, and their labels (1..K) on `grid`.

    A lesion is a 26-connected region at or above `threshold` of at least `min_ml`; beyond 255 the smallest are left
    out of the label map, which PS3.3 C.8.20 would allow but no reader expects.
    """
    array = _labelled(maps.probability >= threshold, max(1, int(np.ceil(min_ml / grid.voxel_ml))))
    labels = sitk.GetImageFromArray(array)
    grid.place(labels)
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(labels)
    lesions = tuple(_lesion(int(n), shape, array, (maps, grid)) for n in sorted(shape.GetLabels()))
    return lesions, array


def _labelled(mask: NDArray[np.bool_], smallest: int) -> NDArray[np.uint8]:
    """Return the labels of the parts of `mask` of `smallest` voxels or more; only the box around them is searched."""
    array = np.zeros(mask.shape, dtype=np.uint8)
    sides = [np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    if not sides[0].size:
        return array
    box = tuple(slice(int(side[0]), int(side[-1]) + 1) for side in sides)
    parts = sitk.ConnectedComponent(sitk.GetImageFromArray(mask[box].astype(np.uint8)), True)
    found = sitk.GetArrayFromImage(sitk.RelabelComponent(parts, smallest))
    array[box] = np.where(found <= _MOST_LABELS, found, 0)
    return array


def _lesion(
    number: int, shape: sitk.LabelShapeStatisticsImageFilter, labels: NDArray[np.uint8], where: tuple[Maps, Grid]
) -> Lesion:
    maps, grid = where
    left, top, first, width, height, depth = shape.GetBoundingBox(number)
    low, size = np.array([first, top, left]), np.array([depth, height, width])
    near = labels[first : first + depth, top : top + height, left : left + width] == number
    indices = np.argwhere(near) + low
    inside = tuple(indices.T)
    corners = np.array(np.meshgrid(*zip(low, low + size - 1, strict=True), indexing="ij")).reshape(3, -1).T
    bounds = grid.points(corners)
    x, y, z = shape.GetCentroid(number)
    return Lesion(
        number=number,
        volume_ml=len(indices) * grid.voxel_ml,
        # Voxel errors of one lesion move together, so their standard deviations add rather than their variances.
        volume_sd_ml=float(maps.sd[inside].sum()) * grid.voxel_ml,
        longest_mm=longest(indices, grid),
        centre_mm=(x, y, z),
        bounds_mm=(_vector(bounds.min(axis=0)), _vector(bounds.max(axis=0))),
        slices=(int(first), int(first + depth - 1)),
        key_slice=int(first + near.sum(axis=(1, 2)).argmax()),
        probability=float(maps.probability[inside].mean()),
        uptake=None if maps.suv is None else _uptake(maps.suv, indices, grid),
    )


def longest(indices: NDArray[np.integer], grid: Grid) -> float:
    """Return the greatest distance in mm between the centres of two voxels `indices` (n, 3).

    The two ends are corners of the convex hull, hence of their slices' hulls; comparing all surface voxels instead
    (ITK's Feret diameter) takes half a minute for a lesion of 3 l.
    """
    starts = np.flatnonzero(np.diff(indices[:, 0], prepend=-1))
    corners = [_hull(part) for part in np.split(indices, starts[1:])]
    points = grid.points(np.concatenate(corners))
    return max(float(np.linalg.norm(points - point, axis=1).max()) for point in points)


def _hull(indices: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return the corners of one slice's voxels, sorted as `np.argwhere` does (Andrew's monotone chain)."""
    rows = np.flatnonzero(np.diff(indices[:, 1], prepend=-1))
    ends = indices[np.union1d(rows, np.append(rows[1:], len(indices)) - 1)]
    return np.array([*_chain(ends), *_chain(ends[::-1])])


def _chain(ends: NDArray[np.integer]) -> list[NDArray[np.integer]]:
    corners: list[NDArray[np.integer]] = []
    for end in ends:
        while len(corners) > 1 and _turn(corners[-2], corners[-1], end) <= 0:
            corners.pop()
        corners.append(end)
    return corners


def _turn(a: NDArray[np.integer], b: NDArray[np.integer], c: NDArray[np.integer]) -> int:
    return int((b[1] - a[1]) * (c[2] - a[2]) - (b[2] - a[2]) * (c[1] - a[1]))


def _uptake(suv: Array, indices: NDArray[np.integer], grid: Grid) -> Uptake:
    values = suv[tuple(indices.T)]
    volume = len(indices) * grid.voxel_ml
    return Uptake(
        suv_max=float(values.max()),
        suv_mean=float(values.mean()),
        suv_peak=_peak(suv, indices[np.argsort(values)[::-1][:_PEAK_CANDIDATES]], grid),
        mtv_ml=volume,
        tlg=float(values.mean()) * volume,
    )


def _peak(suv: Array, centres: NDArray[np.integer], grid: Grid) -> float:
    """Return the highest mean over a 1 ml sphere around one of the `centres`; voxels count whose centre lies in it."""
    radii = [int(_PEAK_RADIUS_MM // s) for s in grid.spacing]
    offsets = np.stack(np.meshgrid(*[np.arange(-r, r + 1) for r in radii], indexing="ij"), axis=-1).reshape(-1, 3)
    near = offsets[((offsets * np.array(grid.spacing)) ** 2).sum(axis=1) <= _PEAK_RADIUS_MM**2]
    limit = np.array(suv.shape) - 1
    return max(float(suv[tuple(np.clip(centre + near, 0, limit).T)].mean()) for centre in centres)


def _vector(values: NDArray[np.float64]) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])
