"""Encapsulated PDF: the page for people in the study (PS3.3 A.45.1)."""

from pydicom.dataset import Dataset

from daemon.domain.codes import ONCOLOGY_REPORT
from daemon.domain.output import SOP_CLASSES, OutputKind
from daemon.imaging.reading import Reading
from daemon.results import page
from daemon.results.common import coded, stamp
from daemon.results.context import SUMMARY_SERIES_NUMBER, ResultContext
from daemon.results.key_images import referred
from daemon.results.picture import key_slices
from daemon.uids import Role


def build(context: ResultContext, reading: Reading) -> list[Dataset]:
    """Return the page in its object; Burned In Annotation is NO because the page names nobody."""
    content = page.render(context, reading)
    made = Dataset()
    stamp(made, context)
    made.SOPClassUID = SOP_CLASSES[OutputKind.SUMMARY]
    made.SOPInstanceUID = context.uid(Role.SUMMARY)
    made.SeriesInstanceUID = context.uid(Role.SUMMARY_SERIES)
    made.SeriesNumber = context.series_number(SUMMARY_SERIES_NUMBER)
    made.InstanceNumber = 1
    made.Modality = "DOC"
    made.SeriesDescription = made.DocumentTitle = context.words("summary")
    made.ConversionType = "WSD"
    made.AcquisitionDateTime = ""
    made.BurnedInAnnotation = "NO"
    if context.source.header.get("BurnedInAnnotation") == "YES":
        made.BurnedInAnnotation = "YES"
    made.VerificationFlag = "UNVERIFIED"
    made.SourceInstanceSequence = [referred(context, key.index) for key in key_slices(reading, page.MOST_SLICES)]
    made.ConceptNameCodeSequence = [coded(ONCOLOGY_REPORT)]
    made.MIMETypeOfEncapsulatedDocument = "application/pdf"
    made.EncapsulatedDocumentLength = len(content)
    made.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
    return [made]
