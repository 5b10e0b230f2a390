"""Presentation states: the outline as coloured lines over the source's slices, for a PACS without SEG (PS3.3 A.33.1).

Grayscale, because the slices are (a colour one refers to colour images only); the lines have a colour of their own. A
state has one rescale slope for all that it shows: a PET whose slices differ in it gets a state for each of them.
"""

from collections.abc import Iterator

import highdicom as hd
import numpy as np
from highdicom.pr import GraphicAnnotation, GraphicLayer, GraphicObject
from pydicom.dataset import Dataset

from daemon.imaging.read import SourceFrame
from daemon.imaging.reading import Reading
from daemon.results.common import maker, slice_header, stamp
from daemon.results.context import PRESENTATION_SERIES_NUMBER, ResultContext
from daemon.results.outlines import outlines
from daemon.results.picture import OUTLINE, key_slices
from daemon.results.views import window
from daemon.uids import Role

# As many states as a person may click through; where each slice needs its own, only the key slices have one.
MOST_STATES = 5
# P-values of lines where a viewer has no colours: white lines would not show on a white ground.
_WHITE, _GREY = 0xFFFF, 0x8000


def build(context: ResultContext, reading: Reading) -> list[Dataset]:
    """Return the states; none where nothing is outlined."""
    return [_state(context, reading, number, group) for number, group in enumerate(groups(context, reading), start=1)]


def groups(context: ResultContext, reading: Reading) -> list[list[int]]:
    """Return the outlined slices that one state can show together."""
    marked = [int(n) for n in np.flatnonzero((reading.labels > 0).any(axis=(1, 2)))]
    alike = _alike(context, marked)
    if len(alike) > MOST_STATES:
        alike = _alike(context, [key.index for key in key_slices(reading, MOST_STATES)])
    return alike


def _alike(context: ResultContext, indices: list[int]) -> list[list[int]]:
    found: dict[tuple[float, float], list[int]] = {}
    for index in indices:
        frame = context.source.frames[index]
        found.setdefault((frame.slope, frame.intercept), []).append(index)
    return [sorted(set(group)) for group in found.values()]


def _state(context: ResultContext, reading: Reading, number: int, group: list[int]) -> Dataset:
    headers = {str(h.SOPInstanceUID): h for h in (slice_header(context, index) for index in group)}
    layer = GraphicLayer(
        layer_name="TUMOUR",
        order=1,
        description=context.words("outline"),
        display_color=hd.color.CIELabColor.from_rgb(*OUTLINE),
    )
    layer.GraphicLayerRecommendedDisplayGrayscaleValue = _GREY if _shape(context) == "INVERSE" else _WHITE
    made = hd.pr.GrayscaleSoftcopyPresentationState(
        referenced_images=list(headers.values()),
        series_instance_uid=context.uid(Role.PRESENTATION_SERIES),
        series_number=context.series_number(PRESENTATION_SERIES_NUMBER),
        sop_instance_uid=context.uid(Role.PRESENTATION, str(number)),
        instance_number=number,
        **maker(context),
        content_label="OUTLINE",
        content_description=context.words("outline as lines"),
        graphic_annotations=[_annotation(context, reading, index, (layer, headers)) for index in group],
        graphic_layers=[layer],
        modality_lut_transformation=_rescale(context.source.frames[group[0]]),
        voi_lut_transformations=list(_windows(context, group, headers)),
        presentation_lut_transformation=hd.PresentationLUTTransformation(presentation_lut_shape=_shape(context)),
        series_description=context.words("outline as lines"),
    )
    stamp(made, context)
    if context.source.header.get("BodyPartExamined"):
        made.BodyPartExamined = context.source.header.BodyPartExamined
    else:
        made.Laterality = ""  # type 2C: whether the body part is paired is not known
    made.PresentationCreationDate, made.PresentationCreationTime = context.date, context.time
    return made


def _rescale(frame: SourceFrame) -> hd.ModalityLUTTransformation | None:
    """Return what makes the modality's units of a multi-frame image's values; of others highdicom finds it.

    It refuses what stands in each frame's own group, where most scanners put it (PS3.3 C.7.6.16.2.9).
    """
    if frame.frame_number is None:
        return None
    return hd.ModalityLUTTransformation(
        rescale_slope=frame.slope, rescale_intercept=frame.intercept, rescale_type=hd.RescaleTypeValues.US
    )


def _annotation(
    context: ResultContext, reading: Reading, index: int, shown: tuple[GraphicLayer, dict[str, Dataset]]
) -> GraphicAnnotation:
    """Return the lines of one slice; outer edges and those of holes are lines of their own."""
    layer, headers = shown
    frame = context.source.frames[index]
    tracking_id, tracking_uid = context.tracking(0)
    return GraphicAnnotation(
        referenced_images=[headers[frame.sop_instance_uid]],
        graphic_layer=layer,
        referenced_frame_number=frame.frame_number,
        graphic_objects=[
            GraphicObject(
                graphic_type="POLYLINE",
                graphic_data=line,
                units="PIXEL",
                tracking_id=tracking_id,
                tracking_uid=tracking_uid,
            )
            for line in outlines(reading.labels[index] > 0)
        ],
    )


def _windows(
    context: ResultContext, group: list[int], headers: dict[str, Dataset]
) -> Iterator[hd.pr.SoftcopyVOILUTTransformation]:
    """Yield each slice's window, as it is read: a state without one would show the whole range of stored values."""
    for index in group:
        low, high = window(context, index)
        frame = context.source.frames[index]
        yield hd.pr.SoftcopyVOILUTTransformation(
            window_center=float(f"{(low + high) / 2:.8g}"),
            window_width=float(f"{high - low:.8g}"),
            referenced_images=hd.ReferencedImageSequence(
                referenced_images=[headers[frame.sop_instance_uid]], referenced_frame_number=frame.frame_number
            ),
        )


def _shape(context: ResultContext) -> str:
    """Return whether the slices are shown as stored, or dark on white as PET is read."""
    return "INVERSE" if context.source.header.get("Modality") == "PT" else "IDENTITY"
