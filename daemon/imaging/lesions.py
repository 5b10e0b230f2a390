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
    mask = sitk.GetImageFromArray((maps.probability >= threshold).astype(np.uint8))
    grid.place(mask)
    smallest = max(1, int(np.ceil(min_ml / grid.voxel_ml)))
    labels = sitk.RelabelComponent(sitk.ConnectedComponent(mask, True), smallest)
    labels = labels * sitk.Cast(labels <= _MOST_LABELS, labels.GetPixelID())
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.ComputeFeretDiameterOn()
    shape.Execute(labels)
    array = np.asarray(sitk.GetArrayFromImage(labels), dtype=np.uint8)
    lesions = tuple(_lesion(int(n), shape, array, (maps, grid)) for n in sorted(shape.GetLabels()))
    return lesions, array


def _lesion(
    number: int, shape: sitk.LabelShapeStatisticsImageFilter, labels: NDArray[np.uint8], where: tuple[Maps, Grid]
) -> Lesion:
    maps, grid = where
    inside = labels == number
    indices = np.argwhere(inside)
    low, high = indices.min(axis=0), indices.max(axis=0)
    corners = grid.points(np.array(np.meshgrid(*zip(low, high, strict=True), indexing="ij")).reshape(3, -1).T)
    x, y, z = shape.GetCentroid(number)
    # Voxel errors of one lesion move together, so their standard deviations add rather than their variances.
    spread = float(maps.sd[inside].sum()) * grid.voxel_ml
    return Lesion(
        number=number,
        volume_ml=float(inside.sum()) * grid.voxel_ml,
        volume_sd_ml=spread,
        longest_mm=float(shape.GetFeretDiameter(number)),
        centre_mm=(x, y, z),
        bounds_mm=(_vector(corners.min(axis=0)), _vector(corners.max(axis=0))),
        slices=(int(low[0]), int(high[0])),
        key_slice=int(inside.sum(axis=(1, 2)).argmax()),
        probability=float(maps.probability[inside].mean()),
        uptake=None if maps.suv is None else _uptake(maps.suv, inside, grid),
    )


def _uptake(suv: Array, inside: NDArray[np.bool_], grid: Grid) -> Uptake:
    values = suv[inside]
    volume = float(inside.sum()) * grid.voxel_ml
    return Uptake(
        suv_max=float(values.max()),
        suv_mean=float(values.mean()),
        suv_peak=_peak(suv, inside, grid),
        mtv_ml=volume,
        tlg=float(values.mean()) * volume,
    )


def _peak(suv: Array, inside: NDArray[np.bool_], grid: Grid) -> float:
    """Return the highest mean over a 1 ml sphere centred in the lesion; small grids count voxel centres."""
    radii = [int(_PEAK_RADIUS_MM // s) for s in grid.spacing]
    offsets = np.stack(np.meshgrid(*[np.arange(-r, r + 1) for r in radii], indexing="ij"), axis=-1).reshape(-1, 3)
    near = offsets[((offsets * np.array(grid.spacing)) ** 2).sum(axis=1) <= _PEAK_RADIUS_MM**2]
    centres = np.argwhere(inside)
    hottest = centres[np.argsort(suv[inside])[::-1][:500]]
    limit = np.array(suv.shape) - 1
    means = [suv[tuple(np.clip(centre + near, 0, limit).T)].mean() for centre in hottest]
    return float(max(means))


def _vector(values: NDArray[np.float64]) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])
