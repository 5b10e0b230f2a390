"""The conformance gate: nothing leaves that does not say what the model found, where it found it."""

from collections.abc import Mapping
from io import BytesIO

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from daemon.domain.output import OutputKind
from daemon.imaging.read import SourceSeries
from daemon.results.check_report import check_refusal, check_report
from daemon.results.context import Origin, RefusalContext, ResultContext
from daemon.results.refusal import held

POSITION_TOLERANCE_MM = 0.1
VOLUME_TOLERANCE = 1e-3
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
        UnprocessableError: an object is missing or too many, lacks something, refers to what is not there, lies
            elsewhere, or says another thing than was found.
    """
    wanted = {OutputKind.REPORT, *([OutputKind.SEGMENTATION] if labels.any() else [])}
    if contents.keys() != wanted:
        raise held("result", f"it is {sorted(contents)} where {sorted(wanted)} is due")
    objects = {kind: pydicom.dcmread(BytesIO(content)) for kind, content in contents.items()}
    for kind, dataset in objects.items():
        complete(kind, dataset, context)
    outline = objects.get(OutputKind.SEGMENTATION)
    if outline is not None:
        _references(outline, context)
        _same_place(outline, labels > 0, context.source)
    check_report(objects[OutputKind.REPORT], outline, context)


def check_not_processed(context: RefusalContext, content: bytes) -> None:
    """Read the report of a study that was not read back.

    Raises:
        UnprocessableError: it lacks something, or says another thing than was refused.
    """
    document = pydicom.dcmread(BytesIO(content))
    complete(OutputKind.REPORT, document, context)
    check_refusal(document, context)


def complete(kind: OutputKind, dataset: Dataset, context: Origin) -> None:
    """Check what every object must hold.

    Raises:
        UnprocessableError: something is missing, or patient or study are not the source's.
    """
    missing = [keyword for keyword in _REQUIRED if not dataset.get(keyword)]
    if missing:
        raise held(kind.value, f"{', '.join(missing)} missing")
    header = context.header
    for keyword in ("StudyInstanceUID", "PatientID", "PatientName"):
        if str(dataset.get(keyword) or "") != str(header.get(keyword) or ""):
            raise held(kind.value, f"{keyword} is not the source's")


def _references(outline: Dataset, context: ResultContext) -> None:
    if outline.FrameOfReferenceUID != context.source.header.get("FrameOfReferenceUID"):
        raise held("SEG", "the frame of reference is not the source's")
    known = {frame.sop_instance_uid for frame in context.source.frames}
    named = {
        str(reference.ReferencedSOPInstanceUID)
        for series in outline.ReferencedSeriesSequence
        for reference in series.ReferencedInstanceSequence
    }
    derived = {
        str(image.ReferencedSOPInstanceUID)
        for groups in outline.PerFrameFunctionalGroupsSequence
        for derivation in groups.get("DerivationImageSequence") or ()
        for image in derivation.SourceImageSequence
    }
    if not named or not derived or not named | derived <= known:
        raise held("SEG", "it refers to instances that are not the source's")


def _same_place(outline: Dataset, mask: NDArray[np.bool_], source: SourceSeries) -> None:
    """Compare centroid, bounds and volume in patient space, the SEG's from its own functional groups alone."""
    written, volume = _patient_points(outline)
    expected = source.points(np.argwhere(mask))
    if len(written) != len(expected):
        raise held("SEG", f"it outlines {len(written)} voxels where the model found {len(expected)}")
    if abs(volume - len(expected) * source.volume.grid.voxel_ml) > VOLUME_TOLERANCE * volume:
        raise held("SEG", "its volume is not the model's")
    for name, measure in (("centroid", np.mean), ("low corner", np.min), ("high corner", np.max)):
        apart = float(np.abs(measure(written, axis=0) - measure(expected, axis=0)).max())
        if apart > POSITION_TOLERANCE_MM:
            raise held("SEG", f"its {name} lies {apart:.1f} mm from the model's")


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
