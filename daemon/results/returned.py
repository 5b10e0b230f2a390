"""A returned SEG (PS3.3 A.51): what it refers to, and how well its outline agrees with ours.

Outlines are compared on the lattice of our own, in patient space: where the other's voxels are not exactly voxels of
ours, nothing is resampled and nothing is said. The bytes are a stranger's: everything is bounded, and messages hold
nothing of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage

from daemon.domain.feedback import Claims
from daemon.errors import RefusedError, UnprocessableError
from daemon.imaging.read import decoded, read_header
from daemon.imaging.unpack import MOST_FRAME
from daemon.imaging.volume import Grid
from daemon.uids import is_uid

MOST_VOXELS = 1 << 28  # of all frames together: 1024 of 512 x 512
MOST_OUTLINED = 1 << 23  # 8 l of 1 mm voxels
MOST_UIDS = 20_000
_OFF_GRID = 0.1  # voxels
_DEPTH_TOLERANCE = 0.01
_SHIFT = 1 << 20

Key = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Dice between two outlines, 1 where both are empty, and the volume of the returned one in ml."""

    dice: float
    ml: float


@dataclass(frozen=True, kw_only=True, eq=False)
class _Lattice:
    """Where voxels lie: `steps` are the columns' vectors (column, row, slice) in mm, LPS."""

    origin: NDArray[np.float64]
    steps: NDArray[np.float64]

    @property
    def voxel_ml(self) -> float:
        return abs(float(np.linalg.det(self.steps))) / 1000

    def index(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return vectors (n, 3) in units of the steps."""
        return np.asarray(np.linalg.solve(self.steps, vectors.T).T)


def claims(path: Path) -> Claims:
    """Return what a SEG says of where it comes from.

    Raises:
        RefusedError: it cannot be parsed, is no SEG, or has no segment.
    """
    header = _header(path)
    instances: set[str] = set()
    try:
        for element in header.iterall():
            if element.keyword == "ReferencedSOPInstanceUID" and len(instances) < MOST_UIDS:
                instances.add(str(element.value))
        segments = list(header.SegmentSequence)
        series = {str(item.SeriesInstanceUID) for item in header.get("ReferencedSeriesSequence") or ()}
        return Claims(
            trackings=_uids({str(s.get("TrackingUID") or "") for s in segments}),
            instances=_uids(instances),
            series=_uids(series),
            automatic=all(s.get("SegmentAlgorithmType") == "AUTOMATIC" for s in segments),
        )
    except Exception as error:
        raise RefusedError(f"its references cannot be read ({type(error).__name__}); export it again") from error


def compare(returned: Path, ours: Path | None) -> Agreement:
    """Compare a returned outline with ours; None is our answer that there is nothing to outline.

    Raises:
        RefusedError: it cannot be compared, and why.
    """
    try:
        theirs = _header(returned)
        if ours is None:
            drawn = _keys(returned, theirs, _lattice(theirs), _only(theirs))
            return Agreement(dice=float(not drawn.size), ml=drawn.size * _lattice(theirs).voxel_ml)
        own = _header(ours)
        lattice = _lattice(own)
        before = _keys(ours, own, lattice, _only(own))
        drawn = _keys(returned, theirs, lattice, _chosen(theirs, own.SegmentSequence[0]))
    except UnprocessableError as error:
        raise RefusedError("its pixel data cannot be decoded; export it again, uncompressed") from error
    except (RefusedError, MemoryError):
        raise
    except Exception as error:
        # Whatever a stranger's object makes the readers raise: it has no outline that can be placed.
        raise RefusedError(f"its frames cannot be placed in the patient ({type(error).__name__})") from error
    both = np.intersect1d(before, drawn, assume_unique=True).size
    total = before.size + drawn.size
    return Agreement(dice=2 * both / total if total else 1.0, ml=drawn.size * lattice.voxel_ml)


def overlap(ours: Path, outlined: NDArray[np.bool_], grid: Grid) -> float:
    """Return Dice between our own SEG and voxels on a grid, which is that of the images it was drawn on.

    Raises:
        RefusedError: the SEG is damaged, or lies on another grid.
    """
    try:
        header = _header(ours)
        lattice = _lattice(header)
        before = _keys(ours, header, lattice, _only(header))
    except UnprocessableError as error:
        raise RefusedError("the outline's pixel data cannot be decoded") from error
    places = lattice.index(grid.points(np.argwhere(outlined)) - lattice.origin)
    whole = np.rint(places).astype(np.int64)
    if places.size and np.abs(places - whole).max() > _OFF_GRID:
        raise RefusedError("the outlines lie on other grids, so that voxels cannot be compared one by one")
    drawn = np.unique(_numbered(whole))
    both = np.intersect1d(before, drawn, assume_unique=True).size
    return 2 * both / (before.size + drawn.size)


def _header(path: Path) -> Dataset:
    try:
        header = read_header(path)
        sound = header.get("SOPClassUID") == SegmentationStorage and bool(header.get("SegmentSequence"))
    except MemoryError:
        raise
    except Exception as error:
        raise RefusedError("it cannot be parsed; export it again") from error
    if not sound:
        raise RefusedError("it is no SEG with segments")
    return header


def _uids(texts: set[str]) -> frozenset[str]:
    return frozenset(text for text in texts if is_uid(text))


def _only(header: Dataset) -> frozenset[int]:
    """Return the number of the one segment."""
    if len(header.SegmentSequence) != 1:
        raise RefusedError("none of its several segments can be told to be the tumour, for we outlined none")
    return frozenset({int(header.SegmentSequence[0].SegmentNumber)})


def _chosen(header: Dataset, own: Dataset) -> frozenset[int]:
    """Return the segments that are ours edited: the only one, or those with our Tracking UID, or with our code."""
    segments = list(header.SegmentSequence)
    if len(segments) == 1:
        return frozenset({int(segments[0].SegmentNumber)})
    tracked = [s for s in segments if s.get("TrackingUID") == own.TrackingUID]
    found = tracked or [s for s in segments if _type(s) == _type(own)]
    if not found:
        raise RefusedError("none of its several segments is coded as what we outlined; code it, or send it alone")
    return frozenset(int(s.SegmentNumber) for s in found)


def _type(segment: Dataset) -> tuple[str, str]:
    codes = segment.get("SegmentedPropertyTypeCodeSequence") or [Dataset()]
    return str(codes[0].get("CodeValue")), str(codes[0].get("CodingSchemeDesignator"))


def _group(header: Dataset, frame: Dataset, name: str) -> Dataset:
    """Return a functional group of a frame: its own, or the shared one."""
    own = frame.get(name)
    item: Dataset = own[0] if own else header.SharedFunctionalGroupsSequence[0][name].value[0]
    return item


def _vectors(header: Dataset, frame: Dataset) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a frame's position, and the vectors (column, row) from a pixel to the next, in mm."""
    cosines = np.array(_group(header, frame, "PlaneOrientationSequence").ImageOrientationPatient, dtype=float)
    down, right = (float(v) for v in _group(header, frame, "PixelMeasuresSequence").PixelSpacing)
    position = np.array(_group(header, frame, "PlanePositionSequence").ImagePositionPatient, dtype=float)
    found = np.stack([cosines[:3] * right, cosines[3:] * down])
    if not np.isfinite(found).all() or not np.isfinite(position).all():
        raise RefusedError("a position or spacing in it is no number")
    return position, found


def _depth(header: Dataset, frame: Dataset) -> float:
    """Return the distance between slices in mm, 0 where it is not said."""
    measures = _group(header, frame, "PixelMeasuresSequence")
    return float(measures.get("SpacingBetweenSlices") or measures.get("SliceThickness") or 0)


def _lattice(header: Dataset) -> _Lattice:
    """Return the lattice on which a SEG's own voxels lie."""
    frame = header.PerFrameFunctionalGroupsSequence[0]
    position, in_plane = _vectors(header, frame)
    depth = _depth(header, frame)
    if not depth > 0:
        raise RefusedError("it does not say how far its slices lie apart")
    normal = np.cross(in_plane[0], in_plane[1])
    steps = np.stack([*in_plane, normal / np.linalg.norm(normal) * depth], axis=1)
    return _Lattice(origin=position, steps=steps)


def _keys(path: Path, header: Dataset, lattice: _Lattice, segments: frozenset[int]) -> Key:
    """Return the outlined voxels, a sorted number for each place of the lattice."""
    rows, columns = int(header.Rows), int(header.Columns)
    groups = list(header.PerFrameFunctionalGroupsSequence)
    if rows * columns > MOST_FRAME or rows * columns * len(groups) > MOST_VOXELS:
        raise RefusedError(f"{len(groups)} frames of {rows} x {columns} are more than is compared")
    wanted = [
        at
        for at, frame in enumerate(groups)
        if int(_group(header, frame, "SegmentIdentificationSequence").ReferencedSegmentNumber) in segments
    ]
    half = max(1, int(header.get("MaximumFractionalValue") or 1)) / 2
    found, count = [np.empty(0, dtype=np.int64)], 0
    for at, pixels in zip(wanted, _frames(path, wanted, header), strict=True):
        start, steps = _on_grid(lattice, header, groups[at])
        places = np.argwhere(pixels >= half)
        count += len(places)
        if count > MOST_OUTLINED:
            raise RefusedError(f"it outlines more than {MOST_OUTLINED} voxels")
        found.append(_numbered(start + places[:, 1:] * steps[0] + places[:, :1] * steps[1]))
    return np.unique(np.concatenate(found))


def _frames(path: Path, wanted: list[int], header: Dataset) -> Iterator[NDArray[np.integer]]:
    for pixels in decoded(path, wanted, header) if wanted else ():
        if pixels.shape != (int(header.Rows), int(header.Columns)):
            raise RefusedError("its frames are not of the size that its header says")
        yield pixels


def _on_grid(lattice: _Lattice, header: Dataset, frame: Dataset) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return a frame's first pixel and its two steps in whole steps of the lattice.

    Raises:
        RefusedError: its pixels are not voxels of the lattice.
    """
    position, in_plane = _vectors(header, frame)
    far = position + in_plane[0] * (int(header.Columns) - 1) + in_plane[1] * (int(header.Rows) - 1)
    corners, steps = lattice.index(np.stack([position, far]) - lattice.origin), lattice.index(in_plane)
    whole, first = np.rint(steps).astype(np.int64), np.rint(corners[0]).astype(np.int64)
    last = first + whole[0] * (int(header.Columns) - 1) + whole[1] * (int(header.Rows) - 1)
    alone = (np.abs(whole).sum(axis=1) == 1).all() and not (whole[0] * whole[1]).any()
    apart = max(np.abs(corners[0] - first).max(), np.abs(corners[1] - last).max())
    across = lattice.steps[:, int(np.argmin(np.abs(whole).sum(axis=0)))]
    depth, due = _depth(header, frame), float(np.linalg.norm(across))
    if not alone or apart > _OFF_GRID or (depth and abs(depth - due) > _DEPTH_TOLERANCE * due):
        raise RefusedError("its grid is another than our outline's, so that voxels cannot be compared one by one")
    if np.abs([first, last]).max() >= _SHIFT:
        raise RefusedError("it lies metres away from our outline")
    return first, whole


def _numbered(places: NDArray[np.int64]) -> Key:
    shifted = places + _SHIFT
    return np.asarray((shifted[:, 0] << 42) | (shifted[:, 1] << 21) | shifted[:, 2])
