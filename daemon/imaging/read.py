"""Reads a series into a volume, or says in coded words why it is none."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.utils import iter_pixels

from daemon.domain.geometry import same_spacing
from daemon.domain.reasons import Reason
from daemon.errors import UnprocessableError
from daemon.imaging.frames import Frame, frames_of, normal
from daemon.imaging.plain import plain
from daemon.imaging.unpack import MOST_FRAME, MOST_HEADER, MOST_VOXELS, check_frames, opened
from daemon.imaging.volume import Grid, Vector, Volume

MIN_SLICES = 3
# Slices may stray this share of the median gap before one counts as missing.
GAP_TOLERANCE = 0.1
_COSINE_TOLERANCE = 1e-3
_ACROSS_TOLERANCE_MM = 0.5


@dataclass(frozen=True, kw_only=True)
class SourceFrame:
    """Where a slice of a volume came from; `frame_number` counts from 1, None in a single-frame instance.

    `position` is where its own header puts it (x, y, z) mm; stored values times `slope` plus `intercept` are in the
    modality's units.
    """

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    frame_number: int | None
    position: Vector
    slope: float = 1.0
    intercept: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class SourceSeries:
    """A series as a volume in modality units, with its origin.

    `frames` and the volume's slices share one order: along row x column direction. `headers` holds one data set
    without pixels per instance, in the order of first use.
    """

    volume: Volume
    frames: tuple[SourceFrame, ...]
    headers: tuple[Dataset, ...]

    @property
    def header(self) -> Dataset:
        """Return the first slice's header, for attributes that the series shares."""
        return self.headers[0]

    def points(self, indices: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return LPS mm of voxel centres (n, 3) by each slice's own position, which the even grid may miss a little.

        Args:
            indices: (n, 3) of slice, row, column.
        """
        grid = self.volume.grid
        corners = np.array([frame.position for frame in self.frames])
        return np.asarray(corners[indices[:, 0]] + grid.points(indices * (0, 1, 1)) - np.array(grid.origin))

    def header_of(self, index: int) -> Dataset:
        """Return the header of the instance that slice `index` came from."""
        uid = self.frames[index].sop_instance_uid
        return next(h for h in self.headers if h.SOPInstanceUID == uid)


def read_series(paths: Sequence[Path]) -> SourceSeries:
    """Read the instances of one series.

    Raises:
        UnprocessableError: the pixels cannot be decoded, or the frames are no single volume; the reason says which.
    """
    frames = [frame for path in paths for frame in _frames(path)]
    ordered = _ordered(frames)
    voxels = _voxels(ordered)
    instances = list(dict.fromkeys(id(frame.header) for frame in ordered))
    headers = {id(frame.header): frame.header for frame in ordered}
    return SourceSeries(
        volume=Volume(voxels=voxels, grid=_grid(ordered, voxels.shape)),
        frames=tuple(
            SourceFrame(
                path=frame.path,
                sop_class_uid=str(frame.header.SOPClassUID),
                sop_instance_uid=str(frame.header.SOPInstanceUID),
                frame_number=frame.index + 1 if frame.multiframe else None,
                position=(float(frame.position[0]), float(frame.position[1]), float(frame.position[2])),
                slope=frame.slope,
                intercept=frame.intercept,
            )
            for frame in ordered
        ),
        headers=tuple(headers[key] for key in instances),
    )


def _frames(path: Path) -> list[Frame]:
    header, pixels_at = _parsed(path)
    if int(header.get("SamplesPerPixel") or 1) != 1:
        raise UnprocessableError(Reason.COLOUR_PIXELS, f"instance {header.get('SOPInstanceUID')} holds colour pixels")
    try:
        frames = list(frames_of(path, header, pixels_at))
        if all(map(_is_placed, frames)):
            return frames
        cause: Exception | None = None
    except (TypeError, ValueError) as error:
        cause = error
    # Its words quote the value, which may be anything.
    raise UnprocessableError(
        Reason.NO_GEOMETRY,
        f"instance {header.get('SOPInstanceUID')} has no finite numbers where position, spacing or slope belong",
    ) from cause


def _is_placed(frame: Frame) -> bool:
    numbers = (*frame.position, *frame.orientation, *frame.spacing, frame.slope, frame.intercept)
    return bool(np.isfinite(numbers).all() and frame.spacing.min() > 0 and frame.orientation.any())


def read_header(path: Path) -> Dataset:
    """Return an instance without its pixels.

    Raises:
        UnprocessableError: it cannot be parsed.
    """
    return _parsed(path)[0]


def _parsed(path: Path) -> tuple[Dataset, int | None]:
    """Return an instance without its pixels, and where in the file they begin; None where it is deflated."""
    try:
        source, _ = opened(path, MOST_HEADER)
        if source is not path:
            return pydicom.dcmread(source, stop_before_pixels=True, force=False), None
        with path.open("rb") as file:
            header = pydicom.dcmread(file, stop_before_pixels=True, force=False)
            return header, file.tell()
    except MemoryError:
        raise
    except Exception as error:
        # pydicom raises what its parsers raise; all of it means that the bytes are no DICOM.
        raise UnprocessableError(Reason.UNREADABLE_PIXELS, f"an instance cannot be parsed ({error})") from error


def _ordered(frames: Sequence[Frame]) -> list[Frame]:
    if len(frames) < MIN_SLICES:
        raise UnprocessableError(Reason.TOO_FEW_SLICES, f"{len(frames)} slices are no volume; at least {MIN_SLICES}")
    first = frames[0]
    if any(np.abs(f.orientation - first.orientation).max() > _COSINE_TOLERANCE for f in frames):
        raise UnprocessableError(Reason.MIXED_ORIENTATIONS, "the slices do not share one orientation")
    sizes = {(f.header.get("Rows"), f.header.get("Columns")) for f in frames}
    if len(sizes) > 1 or not all(same_spacing(f.spacing, first.spacing) for f in frames):
        raise UnprocessableError(Reason.INCONSISTENT_GEOMETRY, "rows, columns or pixel spacing differ between slices")
    axis = normal(first.orientation)
    ordered = sorted(frames, key=lambda f: float(axis @ f.position))
    along = np.array([axis @ f.position for f in ordered])
    across = np.array([f.position for f in ordered]) - along[:, None] * axis
    gaps = np.diff(along)
    if gaps.min() < max(float(np.median(gaps)), 0.1) * 0.05:
        raise UnprocessableError(Reason.FOUR_D, "several slices lie at the same position: a 4D series")
    _check_gaps(gaps)
    # Slices of a sheared stack (gantry tilt) drift evenly sideways, which no rectangular grid can hold.
    if np.abs(across - across[0]).max() > _ACROSS_TOLERANCE_MM + 0.01 * float(np.ptp(along)):
        raise UnprocessableError(Reason.INCONSISTENT_GEOMETRY, "the slices drift sideways (gantry tilt?)")
    return ordered


def _check_gaps(gaps: NDArray[np.float64]) -> None:
    usual = float(np.median(gaps))
    wide = np.flatnonzero(np.abs(gaps - usual) > GAP_TOLERANCE * usual)
    if wide.size:
        at = int(wide[0])
        raise UnprocessableError(
            Reason.MISSING_SLICES,
            f"between slice {at + 1} and {at + 2} the gap is {gaps[at]:.2f} mm where {usual:.2f} mm is usual",
        )


def _voxels(frames: Sequence[Frame]) -> NDArray[np.float32]:
    voxels = np.empty(_size(frames), dtype=np.float32)
    for path, group in groupby(sorted(enumerate(frames), key=lambda p: (str(p[1].path), p[1].index)), _path):
        members = list(group)
        wanted = [frame.index for _, frame in members]
        alone = plain(members[0][1]) if len(members) == 1 else None
        found = decoded(path, wanted, members[0][1].header) if alone is None else [alone]
        for (place, frame), pixels in zip(members, found, strict=True):
            if pixels.shape != voxels.shape[1:]:
                raise UnprocessableError(
                    Reason.UNREADABLE_PIXELS, f"decoded size {pixels.shape} is not what the header says"
                )
            voxels[place] = pixels * np.float32(frame.slope) + np.float32(frame.intercept)
    return voxels


def _size(frames: Sequence[Frame]) -> tuple[int, int, int]:
    """Return slices, rows and columns, where that is no more than memory should be asked for."""
    header = frames[0].header
    rows, columns = int(header.get("Rows") or 0), int(header.get("Columns") or 0)
    if rows * columns > MOST_FRAME or rows * columns * len(frames) > MOST_VOXELS:
        raise UnprocessableError(
            Reason.TOO_LARGE,
            f"{len(frames)} slices of {rows} x {columns} are more than is read: {MOST_FRAME} pixels a slice and "
            f"{MOST_VOXELS} voxels a series",
        )
    return len(frames), rows, columns


def _path(pair: tuple[int, Frame]) -> Path:
    return pair[1].path


def decoded(path: Path, indices: Sequence[int], header: Dataset) -> Iterator[NDArray[np.integer]]:
    """Yield the stored values of frames, counted from 0, of an instance with this `header`.

    Raises:
        UnprocessableError: they cannot be decoded, or claim to be larger than the header says.
    """
    count = len(header.get("PerFrameFunctionalGroupsSequence") or [header])
    rows, columns, octets = int(header.Rows), int(header.Columns), max(int(header.get("BitsAllocated") or 8) // 8, 1)
    try:
        source, syntax = opened(path, 2 * MOST_HEADER + count * rows * columns * octets)
        if source is path and syntax.is_encapsulated:
            check_frames(path, count, (rows, columns, octets))
        yield from iter_pixels(source, indices=list(indices))
    except MemoryError:
        raise
    except Exception as error:
        # Each plug-in raises its own kinds; all of them mean that these pixels cannot be had.
        raise UnprocessableError(Reason.UNREADABLE_PIXELS, f"the pixel data cannot be decoded ({error})") from error


def _grid(frames: Sequence[Frame], shape: tuple[int, ...]) -> Grid:
    first, last = frames[0], frames[-1]
    step = (last.position - first.position) / (len(frames) - 1)
    length = float(np.linalg.norm(step))
    return Grid(
        size=(shape[0], shape[1], shape[2]),
        spacing=(length, float(first.spacing[0]), float(first.spacing[1])),
        origin=_vector(first.position),
        axes=(_vector(normal(first.orientation)), _vector(first.orientation[3:]), _vector(first.orientation[:3])),
    )


def _vector(values: NDArray[np.float64]) -> Vector:
    return float(values[0]), float(values[1]), float(values[2])
