"""SEG (PS3.3 A.51) and RTSTRUCT (A.19.3) as one outline on the grid of the series they belong to."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pydicom
from highdicom.seg import Segmentation
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage, SegmentationStorage

from daemon.imaging.read import SourceSeries
from daemon.imaging.steps import to_grid
from daemon.imaging.volume import Grid, Volume
from training.data.readers.contours import rasterise

SOP_CLASSES = frozenset({str(SegmentationStorage), str(RTStructureSetStorage)})
_CLOSED = {"CLOSED_PLANAR", "CLOSEDPLANAR_XOR"}
_REFERENCES = ("ReferencedSeriesSequence", "ReferencedFrameOfReferenceSequence")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Annotation:
    """An object's ROIs or segments: labels and kinds by number, and what marks some of them on a grid."""

    labels: Mapping[int, str]
    kinds: Mapping[int, str]
    mark: Callable[[Sequence[int], Grid], NDArray[np.bool_]]


def outline(paths: Sequence[Path], series: SourceSeries, region: str) -> Volume | None:
    """Return the outline of one study's annotations, None where there are none.

    Annotations of `series` itself go before those of other series in the same frame of reference. What is tumour is
    chosen among the regions of all of them together.

    Args:
        paths: SEG and RTSTRUCT instances.
        series: the reference series.
        region: regular expression for the names of ROIs or segments that are tumour; empty where there is no choice.

    Raises:
        ValueError: no annotation shares the frame of reference, no name fits `region`, or several names leave a choice.
    """
    if not paths:
        return None
    frame, uid = series.header.get("FrameOfReferenceUID"), str(series.header.SeriesInstanceUID)
    objects = [pydicom.dcmread(path) for path in paths]
    near = [ds for ds in objects if frame in _frames(ds)]
    if not near:
        raise ValueError("its SEG or RTSTRUCT is drawn in another frame of reference than the series that is read")
    own = [ds for ds in near if uid in _drawn_on(ds)] or near
    grid = series.volume.grid
    marked = np.zeros(grid.size, dtype=np.bool_)
    for annotation, numbers in _choose([_read(ds) for ds in own], region):
        marked |= annotation.mark(numbers, grid)
    return Volume(voxels=marked.astype(np.float32), grid=grid)


def _frames(ds: Dataset) -> set[str]:
    rois = ds.get("StructureSetROISequence") or ()
    return {str(ds.get("FrameOfReferenceUID", ""))} | {str(r.get("ReferencedFrameOfReferenceUID")) for r in rois}


def _drawn_on(ds: Dataset) -> set[str]:
    items = (item for keyword in _REFERENCES for item in ds.get(keyword) or ())
    return {
        str(element.value) for item in items for element in item.iterall() if element.keyword == "SeriesInstanceUID"
    }


def _read(ds: Dataset) -> _Annotation:
    return _rtstruct(ds) if ds.SOPClassUID == RTStructureSetStorage else _seg(ds)


def _rtstruct(ds: Dataset) -> _Annotation:
    """Return the ROIs that have a closed contour, each a kind of its own."""
    names = {int(roi.ROINumber): str(roi.ROIName) for roi in ds.StructureSetROISequence}
    closed = {}
    for roi in ds.get("ROIContourSequence") or ():
        points = [_points(c) for c in roi.get("ContourSequence") or () if c.ContourGeometricType in _CLOSED]
        if points:
            closed[int(roi.ReferencedROINumber)] = points
    numbered = {number: names[number] for number in closed}
    return _Annotation(labels=numbered, kinds=numbered, mark=partial(_contours, closed))


def _points(contour: Dataset) -> NDArray[np.float64]:
    return np.array(contour.ContourData, dtype=np.float64).reshape(-1, 3)


def _contours(
    closed: Mapping[int, Sequence[NDArray[np.float64]]], numbers: Sequence[int], grid: Grid
) -> NDArray[np.bool_]:
    marked = np.zeros(grid.size, dtype=np.bool_)
    for number in numbers:
        marked |= rasterise(closed[number], grid)
    return marked


def _seg(ds: Dataset) -> _Annotation:
    seg = Segmentation.from_dataset(ds, copy=False)
    labels = {number: str(seg.get_segment_description(number).segment_label) for number in seg.segment_numbers}
    kinds = {number: seg.get_segment_description(number).segmented_property_type.meaning for number in labels}
    return _Annotation(labels=labels, kinds=kinds, mark=partial(_segments, seg))


def _segments(seg: Segmentation, numbers: Sequence[int], grid: Grid) -> NDArray[np.bool_]:
    found = seg.get_volume(segment_numbers=numbers)
    drawn = np.asarray(found.array, dtype=np.float32).max(axis=-1)
    return to_grid(drawn, _grid(found.affine, drawn.shape), grid) > 0.5


def _choose(annotations: Sequence[_Annotation], region: str) -> list[tuple[_Annotation, list[int]]]:
    """Return of each annotation the numbers whose label fits `region`; without one, all, if they are of one kind."""
    fit = [[n for n, label in a.labels.items() if re.search(region, label, re.IGNORECASE)] for a in annotations]
    chosen = [(annotation, numbers) for annotation, numbers in zip(annotations, fit, strict=True) if numbers]
    listed = ", ".join(sorted({label for a in annotations for label in a.labels.values()})) or "nothing closed"
    if not chosen:
        raise ValueError(f"no region fits {region!r}; there is {listed}")
    if not region and len({annotation.kinds[n] for annotation, numbers in chosen for n in numbers}) > 1:
        raise ValueError(f"which region is the tumour? There is {listed}; say it with --region")
    return chosen


def _grid(affine: NDArray[np.float64], shape: tuple[int, ...]) -> Grid:
    """Return the grid of a highdicom volume, whose affine maps (slice, row, column) to LPS mm."""
    columns = np.asarray(affine)[:3, :3].T
    spacing = np.linalg.norm(columns, axis=1)
    axes = columns / spacing[:, None]
    return Grid(
        size=(shape[0], shape[1], shape[2]),
        spacing=_triple(spacing),
        origin=_triple(np.asarray(affine)[:3, 3]),
        axes=(_triple(axes[0]), _triple(axes[1]), _triple(axes[2])),
    )


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])
