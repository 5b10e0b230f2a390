"""Resampling between grids whose axes agree: one axis after the other, slice by slice.

What ITK does with whole volumes at once (smooth, then interpolate linearly; beyond the volume a constant), at a
fraction of its time and memory. Sums are in double precision and in a fixed order: the same bits on any number of
threads, and those of ITK but for its own rounding, which is less than 1e-6 of the values.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from daemon.imaging.volume import Grid

Array = NDArray[np.float32]
_Doubles = NDArray[np.float64]
_WIDEST, _ERROR = 32, 0.02
_HALF = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Taps:
    """Of one axis: `targets[i]` is the sum over t of `weights[t, i]` times source `places[t, i]`; others lack."""

    targets: NDArray[np.intp]
    places: NDArray[np.intp]
    weights: _Doubles

    @classmethod
    def of(cls, at: _Doubles, count: int, kernel: _Doubles) -> Self:
        """Return what interpolates at the continuous indices `at` of `count` samples smoothed by `kernel` (odd).

        Beyond the first and last sample's centre theirs are taken for half a sample, as ITK does.
        """
        targets = np.flatnonzero((at >= -_HALF) & (at < count - _HALF))
        at = at[targets]
        low = np.clip(np.floor(at), 0, count - 1).astype(np.intp)
        high = np.minimum(low + 1, count - 1)
        share = np.clip(at - low, 0, 1)
        offsets = np.arange(len(kernel)) - len(kernel) // 2
        near = [(low, 1 - share), (high, share)]
        places = np.concatenate([np.clip(place + offsets[:, None], 0, count - 1) for place, _ in near])
        weights = np.concatenate([part * kernel[:, None] for _, part in near])
        return cls(targets=targets, places=places, weights=weights)

    def along_rows(self, plane: _Doubles) -> _Doubles:
        """Return a plane (rows, columns) with the targets in the place of its rows."""
        total = self.weights[0][:, None] * plane[self.places[0]]
        for place, weight in zip(self.places[1:], self.weights[1:], strict=True):
            total += weight[:, None] * plane[place]
        return total


def agree(one: Grid, other: Grid) -> bool:
    """Return whether rows, columns and slices of both grids run in the same directions."""
    return one.axes == other.axes


def resample(voxels: Array, source: Grid, target: Grid, outside: float, sigma: _Doubles | None = None) -> Array:
    """Return `voxels` (on `source`) seen on `target`, whose axes agree, linearly interpolated.

    Args:
        voxels: slices, rows, columns.
        source: their grid.
        target: the grid wanted.
        outside: what lies beyond `source`.
        sigma: of the Gaussian to smooth with before, in mm along slice, row and column; None leaves it out.
    """
    slices, rows, columns = (_taps(axis, source, target, sigma) for axis in range(3))
    made = np.full(target.size, outside, dtype=np.float32)
    seen = np.ix_(rows.targets, columns.targets)
    for index, places, weights in zip(slices.targets, slices.places.T, slices.weights.T, strict=True):
        plane = np.zeros(voxels.shape[1:])
        for place, weight in zip(places, weights, strict=True):
            if weight:
                plane += weight * voxels[place]
        made[index][seen] = columns.along_rows(np.ascontiguousarray(rows.along_rows(plane).T)).T
    return made


def _taps(axis: int, source: Grid, target: Grid, sigma: _Doubles | None) -> Taps:
    first = float((np.array(target.origin) - np.array(source.origin)) @ np.array(source.axes[axis]))
    at: _Doubles = (first + np.arange(target.size[axis], dtype=np.float64) * target.spacing[axis]) / source.spacing[
        axis
    ]
    kernel = np.ones(1) if sigma is None else _gaussian(float(sigma[axis]) / source.spacing[axis])
    return Taps.of(at, source.size[axis], kernel)


def _gaussian(sigma: float) -> _Doubles:
    """Return ITK's discrete Gaussian (Lindeberg 1994) of `sigma` samples: what it makes of a single one."""
    one = np.zeros((1, 1, 2 * _WIDEST + 1), dtype=np.float64)
    one[0, 0, _WIDEST] = 1
    made = sitk.GetArrayFromImage(sitk.DiscreteGaussian(sitk.GetImageFromArray(one), [sigma**2, 0, 0], _WIDEST, _ERROR))
    kernel = np.asarray(made[0, 0], dtype=np.float64)
    half = int(np.abs(np.flatnonzero(kernel) - _WIDEST).max())
    return kernel[_WIDEST - half : _WIDEST + half + 1]
