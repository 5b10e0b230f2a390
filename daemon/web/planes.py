"""Slices across a series: its volume, read once and kept for a while, cut along its own axes into three planes."""

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import permutations
from typing import Generic, TypeVar

import numpy as np
from fastapi import HTTPException
from numpy.typing import NDArray

from daemon.domain.instance import Instance
from daemon.imaging.read import GAP_TOLERANCE
from daemon.imaging.volume import Grid, Vector, Volume
from daemon.ledger.holdings import Holding
from daemon.results.views import View
from daemon.spool.store import Spool
from daemon.web.slices import LEAST, SIDE, Shown, frames_on, read_some, shown, units_of

Array = NDArray[np.float32]
Scalar = TypeVar("Scalar", bound=np.generic)
Value = TypeVar("Value")
# Voxels of a series that are kept, of two octets each; of a larger one every second row and column are, or fewer.
MOST = 40_000_000
_AT_ONCE = 16
# Of a window's larger end; float16 tells that apart from the next, and holds sixty of them.
_STEPS = 1000.0
_FARTHEST = 60_000.0


class Plane(StrEnum):
    """A plane of the patient; of an oblique series the one that lies nearest."""

    AXIAL = "axial"
    CORONAL = "coronal"
    SAGITTAL = "sagittal"


# Along which patient axis (0, 1, 2: toward left, back, head) a plane's slices, rows and columns grow, and which way.
_WAYS: dict[Plane, tuple[tuple[int, int], ...]] = {
    Plane.AXIAL: ((2, 1), (1, 1), (0, 1)),
    Plane.CORONAL: ((1, 1), (2, -1), (0, 1)),
    Plane.SAGITTAL: ((0, 1), (2, -1), (1, 1)),
}


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How a volume's axes become a plane's: in which `order`, and which of them are `turned` round."""

    order: tuple[int, int, int]
    turned: tuple[bool, bool, bool]

    @classmethod
    def into(cls, grid: Grid, plane: Plane) -> "Cut":
        """Return how to cut a volume on `grid` into a plane."""
        toward = np.array(grid.axes)
        # Each axis is taken for the patient's that it lies nearest to, all three at once.
        nearest = max(permutations(range(3)), key=lambda axes: sum(abs(toward[n, a]) for n, a in enumerate(axes)))
        order = [nearest.index(axis) for axis, _ in _WAYS[plane]]
        turned = [bool(toward[n, axis] * way < 0) for n, (axis, way) in zip(order, _WAYS[plane], strict=True)]
        return cls(order=(order[0], order[1], order[2]), turned=(turned[0], turned[1], turned[2]))

    def grid(self, grid: Grid) -> Grid:
        """Return the same lattice with the plane's axes."""
        corner, axes = np.zeros((1, 3)), list[Vector]()
        for n, turn in zip(self.order, self.turned, strict=True):
            corner[0, n] = grid.size[n] - 1 if turn else 0
            x, y, z = np.array(grid.axes[n]) * (-1 if turn else 1)
            axes.append((float(x), float(y), float(z)))
        first, second, third = self.order
        x, y, z = grid.points(corner)[0]
        return Grid(
            size=(grid.size[first], grid.size[second], grid.size[third]),
            spacing=(grid.spacing[first], grid.spacing[second], grid.spacing[third]),
            origin=(float(x), float(y), float(z)),
            axes=(axes[0], axes[1], axes[2]),
        )

    def slice(self, voxels: NDArray[Scalar], index: int) -> NDArray[Scalar]:
        """Return slice `index` of the plane of voxels (slices, rows, columns) of the volume."""
        moved = voxels.transpose(self.order)[-1 - index if self.turned[0] else index]
        return moved[:: -1 if self.turned[1] else 1, :: -1 if self.turned[2] else 1]


@dataclass(frozen=True, kw_only=True, eq=False)
class Kept:
    """A series in memory: `voxels` times `unit` are in the modality's units, on `grid`.

    In plane it holds each `stride`th voxel; `window` is what the series is usually seen in.
    """

    voxels: NDArray[np.float16]
    unit: float
    stride: int
    grid: Grid
    window: tuple[float, float]


@dataclass(kw_only=True)
class Shelf(Generic[Value]):
    """The last few values by key; each is made once, however many ask at the same time."""

    most: int
    _values: OrderedDict[object, Value] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, key: object, make: Callable[[], Value]) -> Value:
        """Return the value of a key, made now where it is not there."""
        with self._lock:
            found = self._values.pop(key, None)
            self._values[key] = made = make() if found is None else found
            while len(self._values) > self.most:
                self._values.popitem(last=False)
            return made


# Two studies of PET and CT; outline and both maps of one.
_SERIES = Shelf[Kept](most=4)
_RESULTS = Shelf[NDArray[np.float16]](most=3)


def native(grid: Grid) -> Plane:
    """Return the plane that a series was acquired in."""
    return next(plane for plane in Plane if Cut.into(grid, plane).order[0] == 0)


def counts(stack: Sequence[Instance], grid: Grid) -> dict[str, int]:
    """Return how many slices each plane of a series has; `grid` is that of some of its slices."""
    whole = replace(grid, size=(len(stack), *grid.size[1:]))
    stride = _stride(whole.size)
    thinned = (whole.size[0], -(-whole.size[1] // stride), -(-whole.size[2] // stride))
    return {plane.value: thinned[Cut.into(whole, plane).order[0]] for plane in Plane}


def kept(spool: Spool, stack: Sequence[Instance]) -> Kept:
    """Return a series in memory, read in parts, so that what decoding takes does not grow with it.

    Raises:
        HTTPException: it cannot be read, or its slices are not evenly apart (422), or files are gone (404).
    """
    return _SERIES.get(tuple(one.digest for one in stack), lambda: _read(spool, stack))


def _read(spool: Spool, stack: Sequence[Instance]) -> Kept:
    middle = shown(spool, stack, len(stack) // 2)
    size = (len(stack), *middle.volume.grid.size[1:])
    stride = _stride(size)
    unit = max(*map(abs, middle.window), 1e-6) / _STEPS
    voxels = np.empty((size[0], -(-size[1] // stride), -(-size[2] // stride)), dtype=np.float16)
    places = np.empty((len(stack), 3))
    for start in range(0, len(stack), _AT_ONCE):
        first = min(start, len(stack) - LEAST)
        part, _ = units_of(stack[0].acquisition.modality, read_some(spool, stack[first : start + _AT_ONCE]))
        there = np.arange(len(part.voxels))
        # What lies far outside of the window looks as its end does.
        voxels[first + there] = np.clip(part.voxels[:, ::stride, ::stride] / unit, -_FARTHEST, _FARTHEST)
        places[first + there] = part.grid.points(np.stack([there, 0 * there, 0 * there], axis=1))
    grid = _whole(middle.volume.grid, places, voxels.shape, stride)
    return Kept(voxels=voxels, unit=unit, stride=stride, window=middle.window, grid=grid)


def _whole(grid: Grid, places: NDArray[np.float64], shape: tuple[int, ...], stride: int) -> Grid:
    gaps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    if np.abs(gaps - np.median(gaps)).max() > GAP_TOLERANCE * np.median(gaps):
        raise HTTPException(422, "The series cannot be shown across: its slices are not evenly apart.")
    x, y, z = places[0]
    return replace(
        grid,
        size=(shape[0], shape[1], shape[2]),
        spacing=(float(gaps.mean()), grid.spacing[1] * stride, grid.spacing[2] * stride),
        origin=(float(x), float(y), float(z)),
    )


def _stride(size: tuple[int, ...]) -> int:
    return max(1, math.ceil(math.sqrt(math.prod(size) / MOST)))


def across(spool: Spool, stack: Sequence[Instance], plane: Plane, index: int) -> Shown:
    """Return slice `index` of a plane, counted from 0 from right, front or feet on; raises as `kept`."""
    series = kept(spool, stack)
    way = Cut.into(series.grid, plane)
    grid = way.grid(series.grid)
    if not 0 <= index < grid.size[0]:
        raise HTTPException(404, "There is no such slice in the spool.")
    voxels = way.slice(series.voxels, index).astype(np.float32) * np.float32(series.unit)
    volume = _alone(voxels, grid, index)
    return Shown(volume=volume, view=View.fitted(volume.grid, 0, (SIDE, SIDE)), window=series.window)


def marked(spool: Spool, holding: Holding, stack: Sequence[Instance], where: tuple[Plane, int]) -> Array | None:
    """Return a result on slice (plane, index), None where it lies on another grid than the series."""
    series = kept(spool, stack)
    found = _RESULTS.get((holding.digest, series.grid), lambda: _result(spool, holding, series))
    plane, index = where
    return Cut.into(series.grid, plane).slice(found, index).astype(np.float32) if found.size else None


def _result(spool: Spool, holding: Holding, series: Kept) -> NDArray[np.float16]:
    """Return a result's voxels where the series has them; nothing where it is another's size."""
    found = np.zeros(series.grid.size, dtype=np.float16)
    origin, step = np.array(series.grid.origin), np.array(series.grid.axes[0]) * series.grid.spacing[0]
    for place, frame in frames_on(spool, holding):
        thinned = frame[:: series.stride, :: series.stride]
        at = round(float((np.array(place) - origin) @ step / (step @ step)))
        if thinned.shape != found.shape[1:] or not 0 <= at < len(found):
            return np.empty(0, dtype=np.float16)
        found[at] = thinned
    return found


def under(spool: Spool, stack: Sequence[Instance], over: Shown, outside: float) -> Array:
    """Return another series at the pixels of a slice, linear between its voxels."""
    series = kept(spool, stack)
    target, grid = over.view.grid, series.grid
    rows, columns = (np.arange(n) for n in target.size[1:])
    first = (np.array(target.origin) - grid.origin) @ _inverse(grid)
    down, right = (np.array(target.axes[n]) * target.spacing[n] @ _inverse(grid) for n in (1, 2))
    at = first + rows[:, None, None] * down + columns[None, :, None] * right
    return _linear(series.voxels, at, outside / series.unit) * np.float32(series.unit)


def _inverse(grid: Grid) -> NDArray[np.float64]:
    """Return the matrix that takes millimetres to indices (slice, row, column)."""
    return np.asarray(np.array(grid.axes).T / np.array(grid.spacing))


def _linear(voxels: NDArray[np.float16], at: NDArray[np.float64], outside: float) -> Array:
    size = np.array(voxels.shape)
    inside = (np.abs(at - (size - 1) / 2) <= size / 2).all(axis=-1)
    low = np.clip(np.floor(at), 0, size - 1).astype(np.int64)
    high = np.minimum(low + 1, size - 1)
    share = np.clip(at - low, 0, 1).astype(np.float32)
    found = np.zeros(at.shape[:-1], dtype=np.float32)
    for corner in np.ndindex(2, 2, 2):
        index = [(high if up else low)[..., n] for n, up in enumerate(corner)]
        weight = np.prod([share[..., n] if up else 1 - share[..., n] for n, up in enumerate(corner)], axis=0)
        found += weight * voxels[index[0], index[1], index[2]].astype(np.float32)
    return np.where(inside, found, np.float32(outside))


def _alone(plane: Array, grid: Grid, index: int) -> Volume:
    x, y, z = grid.points(np.array([[index, 0, 0]]))[0]
    alone = replace(grid, size=(1, *grid.size[1:]), origin=(float(x), float(y), float(z)))
    return Volume(voxels=np.ascontiguousarray(plane[None]), grid=alone)
