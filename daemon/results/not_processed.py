"""SR of a study that was not read: why, what to do about it, and what was received (TID 1500, row 12)."""

from collections.abc import Iterator

from highdicom import sr
from highdicom.sr.templates import DEFAULT_LANGUAGE
from pydicom.dataset import Dataset

from daemon.domain import codes as ours
from daemon.domain.codes import Concept
from daemon.domain.finding import Answer
from daemon.results.common import coded, sample_header
from daemon.results.context import RefusalContext
from daemon.results.report import document, observer, text

_CONTAINS = sr.RelationshipTypeValues.CONTAINS


def build(context: RefusalContext) -> Dataset:
    """Return the report: the sentence first, then the answer and its reason in codes, then the series received."""
    return document(context, _content(context), list(_evidence(context)), context.described("report: not processed"))


def _content(context: RefusalContext) -> Dataset:
    root = sr.ContainerContentItem(name=coded(ours.ONCOLOGY_REPORT), template_id="1500")
    root.ContentSequence = sr.ContentSequence()
    root.ContentSequence.extend(sr.LanguageOfContentItemAndDescendants(DEFAULT_LANGUAGE))
    root.ContentSequence.extend(observer(context))
    for procedure in _procedures(context):
        root.ContentSequence.append(
            sr.CodeContentItem(
                name=coded(ours.PROCEDURE_REPORTED),
                value=coded(procedure),
                relationship_type=sr.RelationshipTypeValues.HAS_CONCEPT_MOD,
            )
        )
    root.ContentSequence.append(text(ours.CONCLUSION, context.conclusion))
    evaluations = sr.ContainerContentItem(name=coded(ours.QUALITATIVE_EVALUATIONS), relationship_type=_CONTAINS)
    evaluations.ContentSequence = sr.ContentSequence()
    for name, value in (
        (ours.RESULT, ours.ANSWERS[Answer.NOT_PROCESSED]),
        (ours.NOT_PROCESSED_REASON, ours.REASONS[context.reason]),
    ):
        item = sr.CodeContentItem(name=coded(name), value=coded(value), relationship_type=_CONTAINS)
        evaluations.ContentSequence.append(item)
    for arrival in context.arrivals:
        evaluations.ContentSequence.append(text(ours.RECEIVED, arrival))
    root.ContentSequence.append(evaluations)
    return root


def _procedures(context: RefusalContext) -> Iterator[Concept]:
    modalities = {instance.acquisition.modality for instance in context.received}
    if "MR" in modalities:
        yield ours.MR_IMAGING
    if "PT" in modalities:
        yield ours.PET_IMAGING


def _evidence(context: RefusalContext) -> Iterator[Dataset]:
    """Yield all that was received, the sample first, whose patient and study highdicom copies."""
    sample = sample_header(context)
    yield sample
    for instance in context.received:
        if instance.sop_instance_uid != sample.SOPInstanceUID:
            item = Dataset()
            item.SOPClassUID = instance.sop_class_uid
            item.SOPInstanceUID = instance.sop_instance_uid
            item.SeriesInstanceUID = instance.series_instance_uid
            item.StudyInstanceUID = instance.study_instance_uid
            yield item
