"""A picture of what one result object shows, for somebody without a viewer."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset

from daemon.domain.output import SOP_CLASSES, OutputKind
from daemon.errors import FatalError
from daemon.imaging.read import SourceSeries
from daemon.results.maps import PROBABILITY_LABEL
from daemon.results.outlines import outlines
from daemon.results.picture import OUTLINE
from daemon.results.views import CIVIDIS, INFERNO, Pixels, View, coloured, grey

_BOX = (768, 768)
_PERCENTILES = (1.0, 99.5)
_LINE = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Glance:
    """RGB pixels (height, width, 3), and what they show in words."""

    pixels: Pixels
    title: str


def source_of(made: Dataset) -> str:
    """Return the Series Instance UID of the series that an outline is drawn on; empty where the object needs none."""
    if str(made.SOPClassUID) != SOP_CLASSES[OutputKind.SEGMENTATION]:
        return ""
    return str(made.ReferencedSeriesSequence[0].SeriesInstanceUID)


def glance(made: Dataset, source: SourceSeries | None) -> Glance:
    """Return a key image as it is, an outline on the slice where it is largest, a map where it is brightest.

    Raises:
        FatalError: the object is no image, or its source is not given.
    """
    kind = str(made.SOPClassUID)
    if kind == SOP_CLASSES[OutputKind.KEY_IMAGES]:
        return Glance(pixels=np.asarray(made.pixel_array, dtype=np.uint8), title=str(made.ImageComments))
    if kind == SOP_CLASSES[OutputKind.UNCERTAINTY]:
        return _map(made)
    if kind != SOP_CLASSES[OutputKind.SEGMENTATION]:
        raise FatalError(
            "this object is no image; --picture is for SEG, key-images, activation, uncertainty and probability"
        )
    if source is None:
        raise FatalError("the images that it outlines are freed; look at it in the PACS")
    return _outline(made, source)


def _outline(made: Dataset, source: SourceSeries) -> Glance:
    masks = made.pixel_array.reshape(-1, made.Rows, made.Columns) > 0
    largest = int(masks.sum(axis=(1, 2)).argmax())
    item = made.PerFrameFunctionalGroupsSequence[largest].DerivationImageSequence[0].SourceImageSequence[0]
    wanted = str(item.ReferencedSOPInstanceUID), item.get("ReferencedFrameNumber")
    index = [(frame.sop_instance_uid, frame.frame_number) for frame in source.frames].index(wanted)
    grid = source.volume.grid
    view = View.fitted(grid, index, _BOX)
    low, high = (float(v) for v in np.percentile(source.volume.voxels, _PERCENTILES))
    shown = grey(view.of_slice(source.volume.voxels, grid), low, max(high, low + 1))
    picture = Image.fromarray(shown)
    pen = ImageDraw.Draw(picture)
    for line in outlines(masks[largest]):
        pen.line([(float(x), float(y)) for x, y in view.corners(line, grid)], fill=OUTLINE, width=_LINE, joint="curve")
    return Glance(pixels=np.asarray(picture, dtype=np.uint8), title=f"slice {index + 1} of {grid.size[0]}")


def _map(made: Dataset) -> Glance:
    maps = made.pixel_array.reshape(-1, made.Rows, made.Columns)
    brightest = int(maps.sum(axis=(1, 2)).argmax())
    (mapping,) = made.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
    colours = INFERNO if mapping.LUTLabel == PROBABILITY_LABEL else CIVIDIS
    return Glance(pixels=coloured(maps[brightest], colours), title=f"slice {brightest + 1} of {len(maps)}")
