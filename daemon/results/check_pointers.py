"""The gate's reading of what points at the source's own slices: presentation states and key object selections."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from daemon.imaging.reading import Reading
from daemon.results.context import ResultContext
from daemon.results.key_images import MOST_KEY_IMAGES
from daemon.results.picture import key_slices
from daemon.results.presentation import groups
from daemon.results.refusal import held

Place = tuple[str, int | None]
# Graphic Data is FL, 32 bits.
RELATIVE_TOLERANCE, PIXEL_TOLERANCE = 1e-3, 1e-3


def check_presentation(states: list[Dataset], context: ResultContext, reading: Reading) -> None:
    """Compare the lines that were written with the outline, slice by slice.

    Raises:
        UnprocessableError: a slice is missing or too many, or its lines enclose another area than the outline, or lie
            around another place.
    """
    due = {_place(context, index): reading.labels[index] > 0 for group in groups(context, reading) for index in group}
    drawn = [pair for state in states for pair in _drawn(state)]
    if sorted(map(str, due)) != sorted(str(place) for place, _ in drawn):
        raise held("gsps", "its lines are not on the slices of the outline")
    for place, lines in drawn:
        mask = due[place]
        area, middle = _enclosed(lines)
        expected = (np.argwhere(mask)[:, ::-1] + 0.5).mean(axis=0)
        if (
            abs(area - int(mask.sum())) > RELATIVE_TOLERANCE * area
            or float(np.abs(middle - expected).max()) > PIXEL_TOLERANCE
        ):
            raise held("gsps", f"its lines enclose {area:.1f} pixels, or others, where the outline has {mask.sum()}")


def check_key_objects(documents: list[Dataset], context: ResultContext, reading: Reading) -> None:
    """Check that the selection names the key slices, and its evidence no other instance.

    Raises:
        UnprocessableError: it does not.
    """
    (document,) = documents
    references = [r for item in document.ContentSequence for r in item.get("ReferencedSOPSequence") or ()]
    due = [_place(context, key.index) for key in key_slices(reading, MOST_KEY_IMAGES)]
    named = {place for reference in references for place in _places(reference)}
    evidence = {
        str(reference.ReferencedSOPInstanceUID)
        for study in document.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    }
    if named != set(due) or evidence != {uid for uid, _ in due}:
        raise held("kos", "it does not name the slices to look at, or others too")


def _place(context: ResultContext, index: int) -> Place:
    frame = context.source.frames[index]
    return frame.sop_instance_uid, frame.frame_number


def _places(reference: Dataset) -> Iterator[Place]:
    uid, numbers = str(reference.ReferencedSOPInstanceUID), reference.get("ReferencedFrameNumber")
    if numbers is None:
        yield uid, None
        return
    for number in numbers if isinstance(numbers, MultiValue) else [numbers]:
        yield uid, int(number)


def _drawn(state: Dataset) -> Iterator[tuple[Place, list[NDArray[np.float64]]]]:
    for annotation in state.GraphicAnnotationSequence:
        lines = [
            np.array(item.GraphicData, dtype=np.float64).reshape(-1, 2) for item in annotation.GraphicObjectSequence
        ]
        for reference in annotation.ReferencedImageSequence:
            for place in _places(reference):
                yield place, lines


def _enclosed(lines: list[NDArray[np.float64]]) -> tuple[float, NDArray[np.float64]]:
    """Return area and middle of what closed lines enclose, those of holes running the other way (shoelace formula)."""
    area, moment = 0.0, np.zeros(2)
    for line in lines:
        x, y = line[:, 0], line[:, 1]
        cross = x[:-1] * y[1:] - x[1:] * y[:-1]
        area += float(cross.sum()) / 2
        moment += ((line[:-1] + line[1:]) * cross[:, None]).sum(axis=0) / 6
    return area, moment / (area or 1.0)
