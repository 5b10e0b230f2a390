"""Preprocessing by recipe: patient-aligned grid, normalised channels, neighbouring slices; and the way back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from daemon.domain.model_bundle import Channel, Normalisation, Recipe
from daemon.imaging.resample import agree, resample
from daemon.imaging.volume import Grid, Volume

Array = NDArray[np.float32]
Kind = TypeVar("Kind", bound=np.floating)
_AIR_HU = -1000.0
# Coarsening by more than this aliases without smoothing first.
_ALIASING = 1.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """Model input before slices are stacked: `array` (channels, slices, rows, columns) on `grid`."""

    array: Array
    grid: Grid


def prepare(volumes: Mapping[str, Volume], recipe: Recipe) -> Prepared:
    """Return the normalised channels of `volumes` (by role) on the recipe's patient-aligned grid.

    The grid covers the volume of the first channel; rows and columns are padded on both sides to the recipe's
    multiple.

    Raises:
        KeyError: a channel's role has no volume.
    """
    grid = model_grid(volumes[recipe.channels[0].role].grid, recipe)
    channels = [normalise(_onto(volumes[c.role], grid, _outside(c)), c) for c in recipe.channels]
    return Prepared(array=np.stack(channels), grid=grid)


def model_grid(source: Grid, recipe: Recipe) -> Grid:
    """Return the axis-aligned LPS grid of the recipe's spacing that covers `source`."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in source.size], indexing="ij")).reshape(3, -1).T
    points = source.points(corners)
    low, high = points.min(axis=0)[::-1], points.max(axis=0)[::-1]
    spacing = np.array(recipe.spacing)
    size = np.maximum(np.round((high - low) / spacing).astype(int) + 1, 1)
    size[1:] = -(-size[1:] // recipe.multiple) * recipe.multiple
    start = (low + high) / 2 - (size - 1) * spacing / 2
    return Grid(
        size=(int(size[0]), int(size[1]), int(size[2])),
        spacing=recipe.spacing,
        origin=(float(start[2]), float(start[1]), float(start[0])),
    )


def normalise(voxels: Array, channel: Channel) -> Array:
    """Return `voxels` as the channel's recipe wants them (see `Channel`)."""
    if channel.normalisation is Normalisation.WINDOW:
        scaled = (voxels - channel.low) / (channel.high - channel.low)
        return np.asarray(np.clip(scaled, 0, 1), dtype=np.float32)
    floor, ceiling = np.percentile(voxels[:: max(1, voxels.shape[0] // 16)], (0.5, 99.8))
    clipped = np.clip(voxels, floor, max(ceiling, floor + 1e-6))
    foreground = clipped[clipped > _otsu(clipped)]
    mean, sd = (foreground.mean(), foreground.std()) if foreground.size else (0.0, 1.0)
    return np.asarray(np.clip((clipped - mean) / max(float(sd), 1e-6), channel.low, channel.high), dtype=np.float32)


def neighbour_stack(array: NDArray[Kind], recipe: Recipe, indices: NDArray[np.int64]) -> NDArray[Kind]:
    """Return the 2.5-D input (n, channels x neighbours, rows, columns) of the slices `indices`.

    Channel-major: all neighbours of the first channel, then of the next. Beyond the edge the last slice repeats.
    """
    half = recipe.neighbours // 2
    offsets = np.arange(-half, half + 1)
    near = np.clip(indices[:, None] + offsets[None, :], 0, array.shape[1] - 1)
    stack = array[:, near]
    n = len(indices)
    return np.ascontiguousarray(stack.transpose(1, 0, 2, 3, 4).reshape(n, -1, *array.shape[2:]))


def to_grid(array: Array, model: Grid, target: Grid) -> Array:
    """Return `array` (on the `model` grid) seen on the `target` grid, linearly interpolated, 0 outside."""
    if agree(model, target):
        return resample(array, model, target, 0.0)
    image = sitk.GetImageFromArray(array)
    model.place(image)
    seen = sitk.Resample(image, target.blank(), sitk.Transform(), sitk.sitkLinear, 0.0)
    return np.asarray(sitk.GetArrayFromImage(seen), dtype=np.float32)


def _outside(channel: Channel) -> float:
    return _AIR_HU if channel.role == "CT" else 0.0


def _onto(volume: Volume, grid: Grid, outside: float) -> Array:
    """Resample linearly; smooth first along the axes that become much coarser."""
    sigma = _smoothing(volume.grid, grid)
    if agree(volume.grid, grid):
        return resample(volume.voxels, volume.grid, grid, outside, sigma)
    image = volume.image()
    if sigma is not None:
        image = sitk.DiscreteGaussian(image, (sigma[::-1] ** 2).tolist(), 32, 0.02, True)
    seen = sitk.Resample(image, grid.blank(), sitk.Transform(), sitk.sitkLinear, outside)
    return np.asarray(sitk.GetArrayFromImage(seen), dtype=np.float32)


def _smoothing(source: Grid, target: Grid) -> NDArray[np.float64] | None:
    """Return the Gaussian's sigma in mm along slice, row and column; None where no axis becomes much coarser."""
    along = np.abs(np.array(source.axes) @ np.array(target.axes).T) @ np.array(target.spacing)
    fine = np.array(source.spacing)
    coarser = along > _ALIASING * fine
    if not coarser.any():
        return None
    return np.where(coarser, 0.42 * np.sqrt(np.maximum(along**2 - fine**2, 0)), fine * 0.01)


def _otsu(voxels: Array) -> float:
    threshold = sitk.OtsuThresholdImageFilter()
    threshold.SetNumberOfHistogramBins(128)
    threshold.Execute(sitk.GetImageFromArray(voxels))
    return float(threshold.GetThreshold())
