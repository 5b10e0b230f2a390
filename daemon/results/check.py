"""The conformance gate: nothing leaves that does not say what the model found, where it found it."""

from collections.abc import Mapping
from io import BytesIO

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from daemon.domain.output import OutputKind
from daemon.domain.reasons import Reason
from daemon.errors import UnprocessableError
from daemon.imaging.volume import Grid
from daemon.results.context import ResultContext

POSITION_TOLERANCE_MM = 0.1
VOLUME_TOLERANCE = 1e-3
_NUMBER_TOLERANCE = 1e-4
_REQUIRED = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "Manufacturer",
    "ContentDate",
    "ContributingEquipmentSequence",
)


def check(context: ResultContext, labels: NDArray[np.uint8], contents: Mapping[OutputKind, bytes]) -> None:
    """Read the written bytes back and compare them with the source and with what was found.

    Args:
        context: the job.
        labels: the outline (slices, rows, columns) as inference gave it.
        contents: each object's Part 10 bytes.

    Raises:
        UnprocessableError: an object lacks something, refers to what is not there, or lies elsewhere.
    """
    objects = {kind: pydicom.dcmread(BytesIO(content)) for kind, content in contents.items()}
    for kind, dataset in objects.items():
        _complete(kind, dataset, context)
    outline = objects.get(OutputKind.SEGMENTATION)
    if outline is not None:
        _references(outline, context)
        _same_place(outline, labels > 0, context.source.volume.grid)
    _same_numbers(objects[OutputKind.REPORT], context)


def _hold(kind: str, message: str) -> UnprocessableError:
    return UnprocessableError(Reason.CONFORMANCE, f"{kind} held: {message}")


def _complete(kind: OutputKind, dataset: Dataset, context: ResultContext) -> None:
    missing = [keyword for keyword in _REQUIRED if not dataset.get(keyword)]
    if missing:
        raise _hold(kind.value, f"{', '.join(missing)} missing")
    header = context.source.header
    for keyword in ("StudyInstanceUID", "PatientID", "PatientName"):
        if str(dataset.get(keyword) or "") != str(header.get(keyword) or ""):
            raise _hold(kind.value, f"{keyword} is not the source's")


def _references(outline: Dataset, context: ResultContext) -> None:
    if outline.FrameOfReferenceUID != context.source.header.get("FrameOfReferenceUID"):
        raise _hold("SEG", "the frame of reference is not the source's")
    known = {frame.sop_instance_uid for frame in context.source.frames}
    named = {
        str(reference.ReferencedSOPInstanceUID)
        for series in outline.ReferencedSeriesSequence
        for reference in series.ReferencedInstanceSequence
    }
    if not named or not named <= known:
        raise _hold("SEG", "it refers to instances that are not the source's")


def _same_place(outline: Dataset, mask: NDArray[np.bool_], grid: Grid) -> None:
    """Compare centroid, bounds and volume in patient space, the SEG's from its own functional groups alone."""
    written, volume = _patient_points(outline)
    expected = grid.points(np.argwhere(mask))
    if len(written) != len(expected):
        raise _hold("SEG", f"it outlines {len(written)} voxels where the model found {len(expected)}")
    if abs(volume - len(expected) * grid.voxel_ml) > VOLUME_TOLERANCE * volume:
        raise _hold("SEG", "its volume is not the model's")
    for name, measure in (("centroid", np.mean), ("low corner", np.min), ("high corner", np.max)):
        apart = float(np.abs(measure(written, axis=0) - measure(expected, axis=0)).max())
        if apart > POSITION_TOLERANCE_MM:
            raise _hold("SEG", f"its {name} lies {apart:.1f} mm from the model's")


def _patient_points(outline: Dataset) -> tuple[NDArray[np.float64], float]:
    """Return LPS points (n, 3) of all outlined voxels, and their volume in ml."""
    shared = outline.SharedFunctionalGroupsSequence[0]
    measures = shared.PixelMeasuresSequence[0]
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    row_step, column_step = (float(v) for v in measures.PixelSpacing)
    frames = np.asarray(outline.pixel_array).reshape(-1, int(outline.Rows), int(outline.Columns))
    points = []
    for groups, frame in zip(outline.PerFrameFunctionalGroupsSequence, frames, strict=True):
        origin = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        rows, columns = np.nonzero(frame)
        points.append(origin + columns[:, None] * column_step * cosines[:3] + rows[:, None] * row_step * cosines[3:])
    found = np.concatenate(points)
    depth = float(measures.get("SpacingBetweenSlices") or measures.SliceThickness)
    return found, len(found) * row_step * column_step * depth / 1000


def _same_numbers(document: Dataset, context: ResultContext) -> None:
    values = list(_numbers(document))
    findings = context.findings
    for name, wanted in (
        ("tumour probability", findings.tumour_probability.mean),
        ("survival risk", findings.survival_risk.mean),
        *((f"volume of lesion {lesion.number}", lesion.volume_ml) for lesion in findings.lesions[:1]),
    ):
        if not any(abs(v - wanted) <= _NUMBER_TOLERANCE * max(1.0, abs(wanted)) for v in values):
            raise _hold("SR", f"it does not hold the {name}")


def _numbers(item: Dataset) -> list[float]:
    found = [float(m.NumericValue) for m in item.get("MeasuredValueSequence") or ()]
    for child in item.get("ContentSequence") or ():
        found += _numbers(child)
    return found
