"""Key Object Selection: which of the source's slices to look at, and why (PS3.3 A.35.4, TID 2010)."""

import highdicom as hd
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from daemon.imaging.reading import Reading
from daemon.results import wording
from daemon.results.common import observing_device, slice_header, stamp
from daemon.results.context import KEY_OBJECTS_SERIES_NUMBER, MANUFACTURER, ResultContext
from daemon.results.key_images import MOST_KEY_IMAGES
from daemon.results.picture import key_slices
from daemon.results.sentence import conclusion
from daemon.uids import Role


def build(context: ResultContext, reading: Reading) -> list[Dataset]:
    """Return the selection: the slices of the key images, in their order, of the source itself."""
    indices = [key.index for key in key_slices(reading, MOST_KEY_IMAGES)]
    chosen = {str(h.SOPInstanceUID): h for h in (slice_header(context, index) for index in indices)}
    said = f"{wording.caution(research_use=context.research_use)}. {conclusion(context.findings)}"
    content = hd.ko.KeyObjectSelection(
        document_title=codes.DCM.OfInterest,
        referenced_objects=list(chosen.values()),
        observer_device_context=observing_device(context),
        description=said,
    )
    made = hd.ko.KeyObjectSelectionDocument(
        evidence=list(chosen.values()),
        content=content,
        series_instance_uid=context.uid(Role.KEY_OBJECTS_SERIES),
        series_number=context.series_number(KEY_OBJECTS_SERIES_NUMBER),
        sop_instance_uid=context.uid(Role.KEY_OBJECTS),
        instance_number=1,
        manufacturer=MANUFACTURER,
        series_description=context.words("key slices"),
    )
    stamp(made, context)
    _name_frames(made, context, indices)
    return [made]


def _name_frames(made: Dataset, context: ResultContext, indices: list[int]) -> None:
    """Name the frames of a multi-frame instance that are meant (PS3.3 10.3), and no purpose, which TID 2010 has not.

    highdicom names the whole instance, and its purpose.
    """
    for item in made.ContentSequence:
        references = item.get("ReferencedSOPSequence") or ()
        if references:
            del item.ConceptNameCodeSequence
        for reference in references:
            frames = [context.source.frames[index] for index in indices]
            numbers = [f.frame_number for f in frames if f.sop_instance_uid == reference.ReferencedSOPInstanceUID]
            if None not in numbers:
                reference.ReferencedFrameNumber = list(dict.fromkeys(numbers))
