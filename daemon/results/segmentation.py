"""SEG: the outline on the source grid (PS3.3 A.51, C.8.20)."""

import highdicom as hd
import numpy as np
from highdicom.seg import Segmentation, SegmentDescription
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from daemon.results.common import derive_dimensions, maker, source_headers, stamp, triple
from daemon.results.context import MANUFACTURER, SEGMENTATION_SERIES_NUMBER, ResultContext
from daemon.uids import Role

# A warm red that stands out on grey and on the usual PET colours.
COLOUR_RGB = (230, 60, 60)


def build(context: ResultContext, labels: NDArray[np.uint8]) -> Dataset:
    """Return the SEG of `labels` (slices, rows, columns; 0 is background) on the source grid.

    One BINARY segment holds all lesions; where rows x columns is no multiple of 8, FRACTIONAL OCCUPANCY with maximum 1
    is written instead, because readers disagree on bits that share a byte between frames.
    """
    source = context.source
    mask = (labels > 0).astype(np.uint8)
    whole_bytes = mask.shape[1] * mask.shape[2] % 8 == 0
    kind = {"segmentation_type": "BINARY"} if whole_bytes else _fractional()
    seg = Segmentation(
        source_images=source_headers(context),
        pixel_array=(mask if whole_bytes else mask.astype(np.float32))[_in_source_order(context)],
        segment_descriptions=[_description(context)],
        series_instance_uid=context.uid(Role.SEGMENTATION_SERIES),
        series_number=context.series_number(SEGMENTATION_SERIES_NUMBER),
        sop_instance_uid=context.uid(Role.SEGMENTATION),
        instance_number=1,
        **maker(context),
        content_label="TUMOUR",
        content_description=context.words("outline"),
        series_description=context.words("outline"),
        **kind,
    )
    stamp(seg, context)
    derive_dimensions(seg, context.uid(Role.DIMENSIONS))
    if source.header.get("BodyPartExamined"):
        seg.BodyPartExamined = source.header.BodyPartExamined
    return seg


def _fractional() -> dict[str, object]:
    return {"segmentation_type": "FRACTIONAL", "fractional_type": "OCCUPANCY", "max_fractional_value": 1}


def _description(context: ResultContext) -> SegmentDescription:
    target, ref = context.bundle.manifest.target, context.bundle.ref
    tracking_id, tracking_uid = context.tracking(0)
    return SegmentDescription(
        segment_number=1,
        segment_label=target.label,
        segmented_property_category=triple(target.category),
        segmented_property_type=triple(target.type),
        algorithm_type="AUTOMATIC",
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=ref.name,
            version=ref.version,
            family=codes.DCM.ArtificialIntelligence,
            source=MANUFACTURER,
        ),
        tracking_uid=tracking_uid,
        tracking_id=tracking_id,
        anatomic_regions=[triple(target.region)],
        display_color=hd.color.CIELabColor.from_rgb(*COLOUR_RGB),
    )


def _in_source_order(context: ResultContext) -> NDArray[np.int64]:
    """Return the slice order that highdicom expects: headers for single frames, frame numbers for multi-frame."""
    numbers = [frame.frame_number for frame in context.source.frames]
    if None in numbers:
        return np.arange(len(numbers))
    return np.argsort(np.array(numbers, dtype=np.int64))
