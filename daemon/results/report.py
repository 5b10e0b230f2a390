"""SR: Comprehensive 3D SR, TID 1500, titled so that viewers show its text (docs/adr/0004)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from daemon.domain import codes as ours
from daemon.domain.codes import Concept
from daemon.domain.finding import Estimate, Lesion
from daemon.results.common import coded, observing_device, source_headers, stamp, triple
from daemon.results.context import MANUFACTURER, MOST_LESIONS, REPORT_SERIES_NUMBER, Origin, ResultContext
from daemon.results.sentence import conclusion, sureness
from daemon.uids import Role


@dataclass(frozen=True, kw_only=True)
class _Number:
    name: Concept
    value: float
    unit: Concept
    derivation: Concept | None = None


def build(context: ResultContext, segmentation: Dataset | None) -> Dataset:
    """Return the report; lesions refer to `segmentation`, without one a single group holds the study's numbers."""
    groups = [_group(context, segmentation, 0, list(_study_numbers(context)))]
    if segmentation is not None and len(context.findings.lesions) > 1:
        groups += [
            _group(context, segmentation, lesion.number, list(_lesion_numbers(lesion)))
            for lesion in context.findings.lesions[:MOST_LESIONS]
        ]
    content = sr.MeasurementReport(
        observation_context=observer(context),
        procedure_reported=triple(context.bundle.manifest.target.procedure),
        imaging_measurements=groups,
        title=coded(ours.ONCOLOGY_REPORT),
    )
    _tell(content[0], context)
    read_along = [header for series in context.others for header in series.headers]
    evidence = [*source_headers(context), *read_along, *([segmentation] if segmentation is not None else [])]
    return document(context, content[0], evidence, context.words("report"))


def document(context: Origin, content: Dataset, evidence: Sequence[Dataset], description: str) -> Dataset:
    """Return `content` as the report of its job: Comprehensive 3D SR, complete, not verified."""
    made = sr.Comprehensive3DSR(
        evidence=evidence,
        content=content,
        series_instance_uid=context.uid(Role.REPORT_SERIES),
        series_number=context.series_number(REPORT_SERIES_NUMBER),
        sop_instance_uid=context.uid(Role.REPORT),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        is_final=not context.research_use,
        is_verified=False,
        series_description=description,
    )
    _finish(made, context)
    return made


def _tell(root: sr.ContainerContentItem, context: ResultContext) -> None:
    """Put the words where they are read: conclusion and sureness before the numbers, what was read after them."""
    first = next(n for n, item in enumerate(root.ContentSequence) if item.RelationshipType == "CONTAINS")
    root.ContentSequence.insert(first, text(ours.SURENESS, sureness(context.findings)))
    root.ContentSequence.insert(first, text(ours.CONCLUSION, conclusion(context.findings)))
    for words in context.read:
        root.ContentSequence.append(text(ours.READ, words))
    for words in context.not_read:
        root.ContentSequence.append(text(ours.NOT_READ, words))


def text(name: Concept, value: str) -> sr.TextContentItem:
    """Return a TEXT item that its container CONTAINS; TID 1500 is extensible."""
    return sr.TextContentItem(name=coded(name), value=value, relationship_type=sr.RelationshipTypeValues.CONTAINS)


def observer(context: Origin) -> sr.ObservationContext:
    """Return who observed, as a report says it."""
    return sr.ObservationContext(observer_device_context=observing_device(context))


def _study_numbers(context: ResultContext) -> Iterator[_Number]:
    """Yield the study's numbers: each estimate as mean and as standard deviation over the passes."""
    findings = context.findings
    yield from _both(ours.PROBABILITY_OF_CANCER, findings.tumour_probability, ours.RATIO)
    if findings.survival_risk:
        yield from _both(ours.RISK_SCORE, findings.survival_risk, ours.NO_UNITS)
    for years, estimate in sorted(findings.survival.items()):
        yield from _both(ours.survival(years), estimate, ours.RATIO)
    yield _Number(name=ours.UNCERTAINTY_SCORE, value=findings.uncertainty.score, unit=ours.RATIO)
    yield _Number(name=ours.LESION_COUNT, value=len(findings.lesions), unit=ours.NO_UNITS)
    if len(findings.lesions) == 1:
        yield from _lesion_numbers(findings.lesions[0])
    elif findings.lesions:
        total = sum(lesion.volume_ml for lesion in findings.lesions)
        spread = sum(lesion.volume_sd_ml for lesion in findings.lesions)
        yield from _both(ours.VOLUME, Estimate(mean=total, sd=spread), ours.MILLILITRE)
    if findings.volume_ml:
        bounds, coverage = findings.volume_ml, findings.volume_ml.coverage
        yield _Number(name=ours.volume_bound("lower", coverage), value=bounds.low, unit=ours.MILLILITRE)
        yield _Number(name=ours.volume_bound("upper", coverage), value=bounds.high, unit=ours.MILLILITRE)


def _lesion_numbers(lesion: Lesion) -> Iterator[_Number]:
    yield from _both(ours.VOLUME, Estimate(mean=lesion.volume_ml, sd=lesion.volume_sd_ml), ours.MILLILITRE)
    yield _Number(name=ours.LONGEST_DIAMETER, value=lesion.longest_mm, unit=ours.MILLIMETRE)
    if lesion.uptake:
        uptake = lesion.uptake
        yield _Number(name=ours.SUV, value=uptake.suv_max, unit=ours.SUV_UNIT, derivation=ours.MAXIMUM)
        yield _Number(name=ours.SUV, value=uptake.suv_mean, unit=ours.SUV_UNIT, derivation=ours.MEAN)
        yield _Number(name=ours.SUV_PEAK, value=uptake.suv_peak, unit=ours.SUV_UNIT)
        yield _Number(name=ours.METABOLIC_VOLUME, value=uptake.mtv_ml, unit=ours.MILLILITRE)
        yield _Number(name=ours.GLYCOLYSIS, value=uptake.tlg, unit=ours.GRAM)


def _both(name: Concept, estimate: Estimate, unit: Concept) -> Iterator[_Number]:
    yield _Number(name=name, value=estimate.mean, unit=unit, derivation=ours.MEAN)
    yield _Number(name=name, value=estimate.sd, unit=unit, derivation=ours.STANDARD_DEVIATION)


def _group(
    context: ResultContext, segmentation: Dataset | None, number: int, numbers: list[_Number]
) -> sr.MeasurementsAndQualitativeEvaluations | sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    identifier, uid = context.tracking(number)
    target, algorithm = context.bundle.manifest.target, _algorithm(context)
    shared = {
        "tracking_identifier": sr.TrackingIdentifier(uid=uid, identifier=identifier),
        "finding_category": triple(target.category),
        "finding_type": triple(target.type),
        "finding_sites": [sr.FindingSite(anatomic_location=triple(target.region))],
        "algorithm_id": algorithm,
        "measurements": [_measurement(n, algorithm) for n in numbers],
        "qualitative_evaluations": _evaluations(context) if number == 0 else None,
    }
    if segmentation is None:
        return sr.MeasurementsAndQualitativeEvaluations(**shared)
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        referenced_segment=sr.ReferencedSegment(
            sop_class_uid=segmentation.SOPClassUID,
            sop_instance_uid=segmentation.SOPInstanceUID,
            segment_number=1,
            source_series=sr.SourceSeriesForSegmentation(context.source.header.SeriesInstanceUID),
        ),
        **shared,
    )


def _algorithm(context: ResultContext) -> sr.AlgorithmIdentification:
    """Return TID 4019."""
    return sr.AlgorithmIdentification(
        name=context.bundle.ref.name,
        version=context.bundle.ref.version,
        family=codes.DCM.ArtificialIntelligence,
        manufacturer=MANUFACTURER,
        parameters=list(context.parameters),
    )


def _measurement(number: _Number, algorithm: sr.AlgorithmIdentification) -> sr.Measurement:
    return sr.Measurement(
        name=coded(number.name),
        value=float(f"{number.value:.6g}"),
        unit=coded(number.unit),
        derivation=coded(number.derivation) if number.derivation else None,
        algorithm_id=algorithm,
    )


def _evaluations(context: ResultContext) -> list[sr.QualitativeEvaluation]:
    findings = context.findings
    pairs = [
        (ours.RESULT, ours.ANSWERS[findings.answer]),
        *([(ours.RISK_CLASS, ours.RISK_CLASSES[findings.risk_class])] if findings.risk_class else []),
        *((ours.REVIEW, Concept(d.value, ours.PRIVATE_SCHEME, d.sentence)) for d in findings.uncertainty.doubts),
    ]
    return [sr.QualitativeEvaluation(name=coded(name), value=coded(value)) for name, value in pairs]


def _finish(made: Dataset, context: Origin) -> None:
    """Give `made` what highdicom leaves out: patient, equipment, marking, coding scheme, predecessors."""
    stamp(made, context)
    _separate(made)
    made.PreliminaryFlag = "PRELIMINARY" if context.research_use else "FINAL"
    made.CodingSchemeIdentificationSequence = [_scheme()]
    if context.predecessors:
        made.PredecessorDocumentsSequence = [_predecessors(context)]


def _separate(item: Dataset) -> None:
    """Set Continuity of Content SEPARATE: with CONTINUOUS text viewers run all values together, without names."""
    if item.get("ContinuityOfContent"):
        item.ContinuityOfContent = "SEPARATE"
    for child in item.get("ContentSequence") or ():
        _separate(child)


def _scheme() -> Dataset:
    scheme = Dataset()
    scheme.CodingSchemeDesignator = ours.PRIVATE_SCHEME
    scheme.CodingSchemeName = "Overread private codes"
    scheme.CodingSchemeVersion = "1"
    scheme.CodingSchemeResponsibleOrganization = MANUFACTURER
    return scheme


def _predecessors(context: Origin) -> Dataset:
    """Return the hierarchical reference to superseded reports (PS3.3 C.17.2)."""
    study = Dataset()
    study.StudyInstanceUID = context.header.StudyInstanceUID
    study.ReferencedSeriesSequence = []
    for report in context.predecessors:
        reference = Dataset()
        reference.ReferencedSOPClassUID = report.sop_class_uid
        reference.ReferencedSOPInstanceUID = report.sop_instance_uid
        series = Dataset()
        series.SeriesInstanceUID = report.series_instance_uid
        series.ReferencedSOPSequence = [reference]
        study.ReferencedSeriesSequence.append(series)
    return study
