"""The edge of a mask as closed lines along its pixels' sides."""

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

Corner = tuple[int, int]
# From a pixel inside to its neighbour (row, column); the side between as corners (column, row), inside to its right.
_SIDES = (
    ((-1, 0), (0, 0), (1, 0)),
    ((0, 1), (1, 0), (1, 1)),
    ((1, 0), (1, 1), (0, 1)),
    ((0, -1), (0, 1), (0, 0)),
)


def outlines(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Return the closed lines, shape (n, 2), around and within `mask` (rows, columns); the last point is the first.

    Points are (column, row) of pixels' corners: 0, 0 is the outer corner of the first pixel, as Graphic Data counts in
    PIXEL units (PS3.3 C.10.5.1.2).
    """
    ends = _sides(mask)
    found = []
    while ends:
        start = here = next(iter(ends))
        line = [here]
        while here != start or len(line) == 1:
            following = ends[here]
            here_next = following.pop()
            if not following:
                del ends[here]
            here = here_next
            line.append(here)
        found.append(_corners(line))
    return found


def _sides(mask: NDArray[np.bool_]) -> dict[Corner, list[Corner]]:
    """Return, by the corner where it starts, the ends of each side between inside and outside."""
    ends: dict[Corner, list[Corner]] = defaultdict(list)
    padded = np.pad(mask, 1)
    rows, columns = mask.shape
    for (down, right), start, end in _SIDES:
        beyond = padded[1 + down : 1 + down + rows, 1 + right : 1 + right + columns]
        for row, column in np.argwhere(mask & ~beyond).tolist():
            ends[column + start[0], row + start[1]].append((column + end[0], row + end[1]))
    return ends


def _corners(line: list[Corner]) -> NDArray[np.float64]:
    """Leave out the points between two steps in one direction."""
    points = np.array(line, dtype=np.float64)
    steps = np.diff(points, axis=0)
    turns = np.any(steps[1:] != steps[:-1], axis=1)
    return points[np.concatenate([[True], turns, [True]])]
