"""Key images: Secondary Captures of the slices that matter, for every PACS that shows an image (PS3.3 A.8.1).

One single-frame object for each slice: of the Secondary Capture classes it is the one that every archive and viewer
takes; the multi-frame true colour one is newer and often refused.
"""

from collections.abc import Callable
from dataclasses import dataclass

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset

from daemon.domain.codes import SOURCE_IMAGE
from daemon.imaging.reading import Reading
from daemon.results.common import coded, source_headers, stamp
from daemon.results.context import ACTIVATION_SERIES_NUMBER, KEY_IMAGES_SERIES_NUMBER, MANUFACTURER, ResultContext
from daemon.results.picture import KeySlice, draw, key_slices
from daemon.results.snapshots import activated
from daemon.results.views import Pixels, letters
from daemon.uids import Role

MOST_KEY_IMAGES = 5


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """What a series of pictures shows, how each is drawn, and what series and pictures are derived from."""

    words: str
    drawn: str
    draw: Callable[[ResultContext, Reading, KeySlice], Pixels]
    series: Role
    role: Role
    number: int


_KEYS = _Kind(
    words="key images",
    drawn="Outline, tumour probability and uncertainty burned into the slice",
    draw=draw,
    series=Role.KEY_IMAGES_SERIES,
    role=Role.KEY_IMAGE,
    number=KEY_IMAGES_SERIES_NUMBER,
)
_ACTIVATION = _Kind(
    words="activation",
    drawn="Class activation burned into the slice",
    draw=lambda context, reading, key: activated(context, reading, key.index),
    series=Role.ACTIVATION_SERIES,
    role=Role.ACTIVATION,
    number=ACTIVATION_SERIES_NUMBER,
)


def build(context: ResultContext, reading: Reading) -> list[Dataset]:
    """Return the key images, the largest lesion's first."""
    return _built(context, reading, _KEYS)


def build_activation(context: ResultContext, reading: Reading) -> list[Dataset]:
    """Return the same slices with what the tumour probability comes from (class activation map, Zhou et al. 2016)."""
    return _built(context, reading, _ACTIVATION)


def _built(context: ResultContext, reading: Reading, kind: _Kind) -> list[Dataset]:
    header = source_headers(context)[0]
    made = []
    for number, key in enumerate(key_slices(reading, MOST_KEY_IMAGES), start=1):
        _, right, _, bottom = letters(context.source.volume.grid)
        image = hd.sc.SCImage.from_ref_dataset(
            ref_dataset=header,
            pixel_array=np.ascontiguousarray(kind.draw(context, reading, key)),
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            series_instance_uid=context.uid(kind.series),
            series_number=context.series_number(kind.number),
            sop_instance_uid=context.uid(kind.role, str(number)),
            instance_number=number,
            manufacturer=MANUFACTURER,
            patient_orientation=(right, bottom),
            transfer_syntax_uid="1.2.840.10008.1.2.1",
        )
        stamp(image, context)
        _describe(image, context, key, kind)
        made.append(image)
    return made


def _describe(image: Dataset, context: ResultContext, key: KeySlice, kind: _Kind) -> None:
    """Say what the picture is and what it was made of.

    Burned In Annotation NO means that nothing in it tells who the patient is (PS3.3 C.7.6.1): true of what is drawn
    here, and of the source's own pixels unless its header says otherwise.
    """
    image.SeriesDescription = context.words(kind.words)
    image.ImageComments = key.title
    image.ImageType = ["DERIVED", "SECONDARY"]
    image.ConversionType = "WSD"
    image.DateOfSecondaryCapture, image.TimeOfSecondaryCapture = context.date, context.time
    image.BurnedInAnnotation = "YES" if context.source.header.get("BurnedInAnnotation") == "YES" else "NO"
    image.DerivationDescription = kind.drawn
    image.SourceImageSequence = [referred(context, key.index)]
    if context.source.header.get("BodyPartExamined"):
        image.BodyPartExamined = context.source.header.BodyPartExamined


def referred(context: ResultContext, index: int) -> Dataset:
    """Return the reference to the source's slice `index` (PS3.3 Table 10-3), as the source of what was derived."""
    frame = context.source.frames[index]
    item = Dataset()
    item.ReferencedSOPClassUID = frame.sop_class_uid
    item.ReferencedSOPInstanceUID = frame.sop_instance_uid
    if frame.frame_number is not None:
        item.ReferencedFrameNumber = frame.frame_number
    item.PurposeOfReferenceCodeSequence = [coded(SOURCE_IMAGE)]
    return item
