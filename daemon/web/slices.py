"""Slices of what is in the spool as pictures: a slice and its neighbours are read, never a whole series."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from fastapi import HTTPException
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset

from daemon.domain.geometry import normal
from daemon.domain.instance import Instance
from daemon.domain.output import OutputKind
from daemon.errors import UnprocessableError
from daemon.imaging.read import SourceSeries, read_header, read_series
from daemon.imaging.suv import in_units
from daemon.imaging.volume import Grid, Volume
from daemon.ledger.holdings import Holding
from daemon.results.outlines import outlines
from daemon.results.views import CIVIDIS, CT_WINDOW, INFERNO, SUV_WINDOW, Colours, Pixels, View, grey, laid, letters
from daemon.spool.store import Spool
from daemon.web.objects import frame_of, window_of

SIDE = 640
LEAST = 3
_PERCENTILES = (1.0, 99.5)
_OUTLINE = (86, 180, 233)  # a blue that stands out on grey and on inferno, for every kind of colour vision
_AMBER = (255, 191, 0)
_LINE, _CASING, _LETTER = 2, 4, 20
AIR_HU = -1000.0
_SAME_PLACE_MM = 0.05
_COLOURS: Mapping[str, Colours] = {OutputKind.UNCERTAINTY: CIVIDIS, OutputKind.PROBABILITY: INFERNO}


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a slice is to be shown: black and white in the modality's units, and how opaque the marks are, 0 to 1."""

    window: tuple[float, float]
    opacity: float


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A slice in its place: values in the modality's units on the pixels of `view`, and its index in the `volume`."""

    volume: Volume
    view: View
    window: tuple[float, float]

    @property
    def position(self) -> NDArray[np.float64]:
        """Return where the slice's first voxel lies (x, y, z) in mm."""
        return np.asarray(self.volume.grid.points(np.array([[self.view.index, 0, 0]]))[0])


def stacked(instances: Sequence[Instance]) -> list[Instance]:
    """Return the slices of a series in their order along its normal; none where they are no stack of images."""
    placed = [one for one in instances if one.geometry and one.frames == 1]
    if len(placed) < LEAST or len(placed) < len(instances):
        return []
    axis = normal(placed[0].geometry.orientation) if placed[0].geometry else (0.0, 0.0, 1.0)
    return sorted(placed, key=lambda one: _along(axis, one))


def _along(axis: Sequence[float], one: Instance) -> float:
    return sum(a * b for a, b in zip(axis, one.geometry.position, strict=True)) if one.geometry else 0.0


def shown(spool: Spool, stack: Sequence[Instance], index: int) -> Shown:
    """Return slice `index`, counted from 0; `window` is what its series is usually seen in.

    Raises:
        HTTPException: there is none (404), or it cannot be read (422).
    """
    if not 0 <= index < len(stack):
        raise HTTPException(404, "There is no such slice in the spool.")
    first = min(max(index - 1, 0), len(stack) - LEAST)
    source = read_some(spool, stack[first : first + LEAST])
    volume, window = units_of(stack[0].acquisition.modality, source)
    return Shown(volume=volume, view=View.fitted(volume.grid, index - first, (SIDE, SIDE)), window=window)


def beneath(spool: Spool, stack: Sequence[Instance], over: Shown) -> Pixels:
    """Return the CT at the pixels of a PET slice."""
    axis = normal(stack[0].geometry.orientation) if stack[0].geometry else (0.0, 0.0, 1.0)
    at = float(np.array(axis) @ over.position)
    nearest = min(range(len(stack)), key=lambda n: abs(_along(axis, stack[n]) - at))
    first = min(max(nearest - 1, 0), len(stack) - LEAST)
    return grey(over.view.sample(read_some(spool, stack[first : first + LEAST]).volume, AIR_HU), *CT_WINDOW)


def drawn(
    slice_: Shown, look: Look, ct: Pixels | None, marks: Sequence[tuple[str, NDArray[np.float32]]]
) -> Image.Image:
    """Return the picture: PET dark on white or in colour over `ct`, and over it the `marks`, (kind, slice) each."""
    view, volume = slice_.view, slice_.volume
    values = view.sample(volume)
    base = grey(values, *look.window)
    if ct is not None:
        low, high = look.window
        base = laid(ct, np.clip((values - low) / max(high - low, 1e-6), 0, 1), INFERNO, full=0.35)
    marked = base
    for kind, plane in marks:
        if kind in _COLOURS:
            marked = laid(marked, np.clip(view.sample(_alone(slice_, plane)), 0, 1), _COLOURS[kind])
    picture = Image.fromarray(marked)
    for kind, plane in marks:
        if kind == OutputKind.SEGMENTATION:
            _draw(picture, slice_, plane > 0)
    whole = Image.blend(Image.fromarray(base), picture, look.opacity)
    _orient(whole, volume.grid)
    return whole


def mark_of(spool: Spool, holding: Holding, slice_: Shown) -> NDArray[np.float32] | None:
    """Return a result's frame (rows, columns) that lies on the slice, None where it has none there."""
    found = _layout(spool, holding.digest)
    grid = slice_.volume.grid
    if (found.rows, found.columns) != grid.size[1:]:
        return None
    places = np.array(found.positions)
    off = np.linalg.norm(places - slice_.position, axis=1)
    nearest = int(off.argmin())
    if off[nearest] > _SAME_PLACE_MM:
        return None
    content = frame_of(spool, holding, nearest + 1)
    return _plane(content, found.bits).reshape(found.rows, found.columns)


def frames_on(spool: Spool, holding: Holding) -> Iterator[tuple[tuple[float, ...], NDArray[np.float32]]]:
    """Yield where each frame of a result lies (x, y, z) in mm, and the frame (rows, columns)."""
    found = _layout(spool, holding.digest)
    for number, place in enumerate(found.positions, 1):
        yield place, _plane(frame_of(spool, holding, number), found.bits).reshape(found.rows, found.columns)


def source_of(spool: Spool, holding: Holding) -> str:
    """Return the Series Instance UID of the images that a result lies on, empty where it names none."""
    return _layout(spool, holding.digest).series


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Where a result's frames lie (x, y, z) in mm, and what they are; nothing of the patient."""

    series: str
    rows: int
    columns: int
    bits: int
    positions: tuple[tuple[float, ...], ...]


@lru_cache(maxsize=32)
def _layout(spool: Spool, digest: str) -> _Layout:
    try:
        header = read_header(spool.path(digest))
        groups: Sequence[Dataset] = header.PerFrameFunctionalGroupsSequence
        places = [group.PlanePositionSequence[0].ImagePositionPatient for group in groups]
        named = (header.get("ReferencedSeriesSequence") or [Dataset()])[0]
        return _Layout(
            series=str(named.get("SeriesInstanceUID", "")),
            rows=int(header.Rows),
            columns=int(header.Columns),
            bits=int(header.BitsAllocated),
            positions=tuple(tuple(float(v) for v in place) for place in places),
        )
    except (UnprocessableError, OSError, AttributeError) as error:
        raise HTTPException(422, "The result cannot be read.") from error


def _plane(content: bytes, bits: int) -> NDArray[np.float32]:
    raw = np.frombuffer(content, dtype=np.uint8)
    if bits == 1:
        return np.unpackbits(raw, bitorder="little").astype(np.float32)
    return raw.astype(np.float32) if bits == 8 else np.frombuffer(content, dtype="<f4")  # noqa: PLR2004 - octets


def read_some(spool: Spool, some: Sequence[Instance]) -> SourceSeries:
    """Read neighbouring slices, three at least.

    Raises:
        HTTPException: a file is gone (404), or they are no stack of grey images (422).
    """
    spool.bring(one.digest for one in some)
    paths = [spool.path(one.digest) for one in some]
    if not all(path.exists() for path in paths):
        raise HTTPException(404, "The slice is not in the spool any longer.")
    try:
        return read_series(paths)
    except UnprocessableError as error:
        raise HTTPException(
            422, "The slice cannot be shown: it or its neighbours are no stack of grey images."
        ) from error


def units_of(modality: str, source: SourceSeries) -> tuple[Volume, tuple[float, float]]:
    """Return slices in the modality's units, and what they are usually seen in: black, white."""
    if modality == "PT":
        try:
            # White at 0, black at 7: the wrong way round is how PET is read.
            return in_units("PET", source), SUV_WINDOW[::-1]
        except UnprocessableError:
            return source.volume, _spread(source.volume)[::-1]
    if modality == "CT":
        return source.volume, CT_WINDOW
    return source.volume, window_of(source.header) or _spread(source.volume)


def _spread(volume: Volume) -> tuple[float, float]:
    low, high = (float(value) for value in np.percentile(volume.voxels, _PERCENTILES))
    return low, max(high, low + 1)


def _alone(slice_: Shown, plane: NDArray[np.float32]) -> Volume:
    x, y, z = slice_.position
    grid: Grid = slice_.volume.grid
    alone = replace(grid, size=(1, *grid.size[1:]), origin=(float(x), float(y), float(z)))
    return Volume(voxels=np.ascontiguousarray(plane[None], dtype=np.float32), grid=alone)


def _orient(picture: Image.Image, grid: Grid) -> None:
    pen, (width, height) = ImageDraw.Draw(picture), picture.size
    places = ((6, height / 2, "lm"), (width - 6, height / 2, "rm"), (width / 2, 4, "mt"), (width / 2, height - 4, "mb"))
    font = ImageFont.load_default(_LETTER)
    for letter, (x, y, anchor) in zip(letters(grid), places, strict=True):
        pen.text((x, y), letter, fill=_AMBER, font=font, anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))


def _draw(picture: Image.Image, slice_: Shown, mask: NDArray[np.bool_]) -> None:
    pen = ImageDraw.Draw(picture)
    lines = [slice_.view.corners(line, slice_.volume.grid) for line in outlines(mask)]
    for width, colour in ((_CASING, (0, 0, 0)), (_LINE, _OUTLINE)):
        for line in lines:
            pen.line([(float(x), float(y)) for x, y in line], fill=colour, width=width, joint="curve")
