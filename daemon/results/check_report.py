"""The gate's reading of a report: it must hold each number once, in its group, and refer to the outline."""

from collections.abc import Iterator

from pydicom.dataset import Dataset

from daemon.domain import codes
from daemon.domain.codes import Concept
from daemon.domain.finding import Answer, Estimate, Lesion
from daemon.results.check_words import check_words
from daemon.results.context import MOST_LESIONS, Origin, RefusalContext, ResultContext
from daemon.results.refusal import held

MEASUREMENT_GROUP = "125007"
TRACKING_UID = "112040"
DERIVATION = "121401"
RELATIVE_TOLERANCE = 1e-5
ABSOLUTE_TOLERANCE = 1e-9

# group's tracking UID, concept's code, code of the derivation or nothing
Place = tuple[str, str, str]


def check_report(document: Dataset, segmentation: Dataset | None, context: ResultContext) -> None:
    """Compare a report that was written with what was found.

    Raises:
        UnprocessableError: a number is missing, too many or another; the answer, or its sentence, is another; it refers
            to another outline than `segmentation`; its evidence is not that and the sources; it names other
            predecessors than it has, or one twice.
    """
    _numbers(document, context)
    check_words(document, context)
    _answer(document, context)
    _outline(document, segmentation)
    _evidence(document, segmentation, context)
    _predecessors(document, context)


def check_refusal(document: Dataset, context: RefusalContext) -> None:
    """Compare a report that nothing was read with the refusal.

    Raises:
        UnprocessableError: it says another thing, holds a number, or names other instances or predecessors.
    """
    said = [(_name(item), _said(item)) for item in _items(document) if item.ValueType in ("CODE", "TEXT", "NUM")]
    wanted = [
        (codes.CONCLUSION.value, context.conclusion),
        (codes.RESULT.value, codes.ANSWERS[Answer.NOT_PROCESSED].value),
        (codes.NOT_PROCESSED_REASON.value, codes.REASONS[context.reason].value),
        *((codes.RECEIVED.value, arrival) for arrival in context.arrivals),
    ]
    ours = {codes.CONCLUSION.value, codes.RESULT.value, codes.NOT_PROCESSED_REASON.value, codes.RECEIVED.value}
    if [pair for pair in said if pair[0] in ours] != wanted or any(i.ValueType == "NUM" for i in _items(document)):
        raise held("SR", "it does not say what was refused, and that alone")
    if _evident(document) != {instance.sop_instance_uid for instance in context.received}:
        raise held("SR", "its evidence is not what was received")
    _predecessors(document, context)


def _items(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence") or ():
        yield child
        yield from _items(child)


def _said(item: Dataset) -> str:
    return str(item.TextValue) if item.ValueType == "TEXT" else _code(item) if item.ValueType == "CODE" else ""


def _numbers(document: Dataset, context: ResultContext) -> None:
    wanted, written = dict(_expected(context)), dict(_written(document))
    if odd := wanted.keys() ^ written.keys():
        raise held("SR", f"numbers {sorted(place[1:] for place in odd)} are missing or too many")
    for place, value in wanted.items():
        if abs(written[place] - value) > ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * abs(value):
            raise held("SR", f"{place[1]} {place[2]} is not what was found".replace("  ", " "))


def _predecessors(document: Dataset, context: Origin) -> None:
    named = [
        str(reference.ReferencedSOPInstanceUID)
        for study in document.get("PredecessorDocumentsSequence") or ()
        for series in study.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    ]
    if sorted(named) != sorted(reference.sop_instance_uid for reference in context.predecessors):
        raise held("SR", "its predecessor documents are not the reports that it supersedes")


def _expected(context: ResultContext) -> Iterator[tuple[Place, float]]:
    found = context.findings
    _, everything = context.tracking(0)
    yield from _spread(everything, codes.PROBABILITY_OF_CANCER, found.tumour_probability)
    if found.survival_risk:
        yield from _spread(everything, codes.RISK_SCORE, found.survival_risk)
    for years, alive in found.survival.items():
        yield from _spread(everything, codes.survival(years), alive)
    yield _at(everything, codes.UNCERTAINTY_SCORE), found.uncertainty.score
    yield _at(everything, codes.LESION_COUNT), len(found.lesions)
    if found.volume_ml:
        yield _at(everything, codes.volume_bound("lower", found.volume_ml.coverage)), found.volume_ml.low
        yield _at(everything, codes.volume_bound("upper", found.volume_ml.coverage)), found.volume_ml.high
    if len(found.lesions) == 1:
        yield from _lesion(everything, found.lesions[0])
    elif found.lesions:
        total = sum(lesion.volume_ml for lesion in found.lesions)
        spread = sum(lesion.volume_sd_ml for lesion in found.lesions)
        yield from _spread(everything, codes.VOLUME, Estimate(mean=total, sd=spread))
        for lesion in found.lesions[:MOST_LESIONS]:
            yield from _lesion(context.tracking(lesion.number)[1], lesion)


def _lesion(group: str, lesion: Lesion) -> Iterator[tuple[Place, float]]:
    yield from _spread(group, codes.VOLUME, Estimate(mean=lesion.volume_ml, sd=lesion.volume_sd_ml))
    yield _at(group, codes.LONGEST_DIAMETER), lesion.longest_mm
    if lesion.uptake:
        yield _at(group, codes.SUV, codes.MAXIMUM), lesion.uptake.suv_max
        yield _at(group, codes.SUV, codes.MEAN), lesion.uptake.suv_mean
        yield _at(group, codes.SUV_PEAK), lesion.uptake.suv_peak
        yield _at(group, codes.METABOLIC_VOLUME), lesion.uptake.mtv_ml
        yield _at(group, codes.GLYCOLYSIS), lesion.uptake.tlg


def _spread(group: str, concept: Concept, estimate: Estimate) -> Iterator[tuple[Place, float]]:
    yield _at(group, concept, codes.MEAN), estimate.mean
    yield _at(group, concept, codes.STANDARD_DEVIATION), estimate.sd


def _at(group: str, concept: Concept, derivation: Concept | None = None) -> Place:
    return group, concept.value, derivation.value if derivation else ""


def _written(document: Dataset) -> Iterator[tuple[Place, float]]:
    seen: set[Place] = set()
    for group in _groups(document):
        uids = [item.UID for item in group.ContentSequence if _name(item) == TRACKING_UID]
        for item in group.ContentSequence:
            if item.ValueType != "NUM":
                continue
            derivations = [_code(child) for child in item.get("ContentSequence") or () if _name(child) == DERIVATION]
            place = (str(uids[0]) if uids else "", _name(item), derivations[0] if derivations else "")
            if place in seen:
                raise held("SR", f"{place[1]} {place[2]} stands twice in one group")
            seen.add(place)
            yield place, float(item.MeasuredValueSequence[0].NumericValue)


def _groups(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence") or ():
        if child.ValueType == "CONTAINER" and _name(child) == MEASUREMENT_GROUP:
            yield child
        yield from _groups(child)


def _answer(document: Dataset, context: ResultContext) -> None:
    said = {
        (_name(item), _code(item))
        for group in _groups(document)
        for item in group.ContentSequence
        if item.ValueType == "CODE"
    }
    found = context.findings
    wanted = {
        (codes.RESULT.value, codes.ANSWERS[found.answer].value),
        *((codes.REVIEW.value, doubt.value) for doubt in found.uncertainty.doubts),
    }
    if found.risk_class:
        wanted.add((codes.RISK_CLASS.value, codes.RISK_CLASSES[found.risk_class].value))
    names = {codes.RESULT.value, codes.RISK_CLASS.value, codes.REVIEW.value}
    if {pair for pair in said if pair[0] in names} != wanted:
        raise held("SR", "its answer, risk class or doubts are not what was found")


def _outline(document: Dataset, segmentation: Dataset | None) -> None:
    """Every group refers to the outline's one segment; without an outline none refers to any."""
    wanted = None if segmentation is None else (str(segmentation.SOPInstanceUID), 1)
    for group in _groups(document):
        referred = {
            (str(reference.ReferencedSOPInstanceUID), reference.get("ReferencedSegmentNumber"))
            for item in group.ContentSequence
            for reference in item.get("ReferencedSOPSequence") or ()
        }
        if referred != ({wanted} if wanted else set()):
            raise held("SR", "a group does not refer to the outline that goes with it")


def _evidence(document: Dataset, segmentation: Dataset | None, context: ResultContext) -> None:
    known = {f.sop_instance_uid for series in (context.source, *context.others) for f in series.frames}
    outlined = set() if segmentation is None else {str(segmentation.SOPInstanceUID)}
    if _evident(document) != known | outlined:
        raise held("SR", "its evidence is not all that was read, and the outline")


def _evident(document: Dataset) -> set[str]:
    return {
        str(reference.ReferencedSOPInstanceUID)
        for study in document.get("CurrentRequestedProcedureEvidenceSequence") or ()
        for series in study.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    }


def _name(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue) if item.get("ConceptNameCodeSequence") else ""


def _code(item: Dataset) -> str:
    return str(item.ConceptCodeSequence[0].CodeValue)
