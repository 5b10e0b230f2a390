"""RTSTRUCT contours as voxels (PS3.3 C.8.8.6)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.path import Path as Polygon
from numpy.typing import NDArray

from daemon.imaging.volume import Grid

# Contours of one plane are told apart from the next plane's by this share of a slice.
_SAME_PLANE = 0.05
_TILTED = 0.5


def rasterise(contours: Sequence[NDArray[np.float64]], grid: Grid) -> NDArray[np.bool_]:
    """Return which voxels' centres lie within closed contours.

    Contours in one plane combine by exclusive or, so that one within another is a hole, be it drawn as
    CLOSEDPLANAR_XOR, as a keyhole, or as a plain second contour. A slice takes the plane nearest to it, no further
    away than half the usual distance between planes (or slices, where those are further apart): contours need not be
    drawn on the slices of `grid`.

    Args:
        contours: points (n, 3) in LPS mm each.
        grid: where the voxels lie.

    Raises:
        ValueError: a contour is not drawn in the planes of the slices.
    """
    steps = np.array(grid.axes) * np.array(grid.spacing)[:, None]
    indices = [(points - np.array(grid.origin)) @ np.linalg.inv(steps) for points in contours]
    planes: dict[float, list[NDArray[np.float64]]] = {}
    for points in sorted(indices, key=lambda p: float(p[:, 0].mean())):
        if np.ptp(points[:, 0]) > _TILTED:
            raise ValueError("a contour is not drawn in the planes of the slices; export it on the image it outlines")
        height = float(points[:, 0].mean())
        near = next((plane for plane in planes if abs(plane - height) < _SAME_PLANE), height)
        planes.setdefault(near, []).append(points[:, 1:])
    marked = np.zeros(grid.size, dtype=np.bool_)
    heights = np.array(sorted(planes))
    reach = max(float(np.median(np.diff(heights))), 1.0) / 2 if heights.size > 1 else 0.5
    for index in range(grid.size[0]):
        plane = float(heights[np.argmin(np.abs(heights - index))])
        if abs(plane - index) <= reach + 1e-6:
            for outline in planes[plane]:
                _toggle(marked[index], outline)
    return marked


def _toggle(plane: NDArray[np.bool_], outline: NDArray[np.float64]) -> None:
    """Invert the pixels of `plane` whose centres lie within `outline`, points (n, 2) as (row, column)."""
    low = np.maximum(np.floor(outline.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(outline.max(axis=0)).astype(int) + 1, plane.shape)
    if (high <= low).any():
        return
    window = plane[low[0] : high[0], low[1] : high[1]]
    centres = np.stack(np.meshgrid(*map(np.arange, low, high), indexing="ij"), axis=-1).reshape(-1, 2)
    window ^= Polygon(outline, closed=False).contains_points(centres).reshape(window.shape)
