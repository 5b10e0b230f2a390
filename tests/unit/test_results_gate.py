"""The conformance gate against objects that were spoiled on purpose, one thing at a time."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from daemon.domain import codes
from daemon.domain.output import OutputKind
from daemon.domain.reasons import Reason
from daemon.errors import UnprocessableError
from daemon.results import report
from daemon.results.check import check, check_not_processed
from daemon.results.encode import encode
from dicom_fixtures.planes import Layout
from dicom_fixtures.studies import StudyRequest, make_brain_mri
from tests.matrix import petct
from tests.sources import COARSE, Case, RefusedCase, case, refused

SEG, SR = OutputKind.SEGMENTATION, OutputKind.REPORT
FOREIGN = "1.2.3"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Objects for two lesions, which the gate lets through."""
    request = StudyRequest(seed=3, spacing=COARSE, layout=Layout(spacing=COARSE, matrix=(64, 64)))
    built = case(make_brain_mri(request, tmp_path_factory.mktemp("gate")).series["FLAIR"], count=2)
    check(built.context, built.labels, built.contents)
    return built


def items(dataset: Dataset) -> Iterator[Dataset]:
    for child in dataset.get("ContentSequence") or ():
        yield child
        yield from items(child)


def numbers(report: Dataset, concept: codes.Concept) -> list[Dataset]:
    return [
        item
        for item in items(report)
        if item.ValueType == "NUM" and item.ConceptNameCodeSequence[0].CodeValue == concept.value
    ]


def groups(report: Dataset) -> list[Dataset]:
    return [item for item in items(report) if item.ValueType == "CONTAINER" and numbers(item, codes.VOLUME)][-2:]


def another_value(concept: codes.Concept, which: int) -> Callable[[Dataset], None]:
    def spoil(report: Dataset) -> None:
        measured = numbers(report, concept)[which].MeasuredValueSequence[0]
        measured.NumericValue = f"{float(measured.NumericValue) * 1.01 + 0.001:.6g}"

    return spoil


def drop(concept: codes.Concept) -> Callable[[Dataset], None]:
    def spoil(report: Dataset) -> None:
        gone = numbers(report, concept)[0]
        for item in [report, *items(report)]:
            if item.get("ContentSequence"):
                item.ContentSequence = [child for child in item.ContentSequence if child is not gone]

    return spoil


def swap_volumes(report: Dataset) -> None:
    first, second = (numbers(group, codes.VOLUME)[0] for group in groups(report))
    first.MeasuredValueSequence, second.MeasuredValueSequence = (
        second.MeasuredValueSequence,
        first.MeasuredValueSequence,
    )


def another_answer(report: Dataset) -> None:
    for item in items(report):
        if item.ValueType == "CODE" and item.ConceptNameCodeSequence[0].CodeValue == codes.RESULT.value:
            item.ConceptCodeSequence[0].CodeValue = "NOT-LIKELY"


def another_text(concept: codes.Concept, old: str, new: str) -> Callable[[Dataset], None]:
    def spoil(report: Dataset) -> None:
        (item,) = (i for i in items(report) if i.ValueType == "TEXT" and named(i) == concept.value)
        assert old in item.TextValue
        item.TextValue = item.TextValue.replace(old, new)

    return spoil


def named(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue)


def conclusion_last(report: Dataset) -> None:
    first = next(item for item in report.ContentSequence if named(item) == codes.CONCLUSION.value)
    report.ContentSequence = [item for item in report.ContentSequence if item is not first] + [first]


def another_outline(report: Dataset) -> None:
    for item in items(report):
        for reference in item.get("ReferencedSOPSequence") or ():
            reference.ReferencedSOPInstanceUID = FOREIGN


def foreign_evidence(report: Dataset) -> None:
    series = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = FOREIGN


def foreign_derivation(seg: Dataset) -> None:
    groups = seg.PerFrameFunctionalGroupsSequence[0]
    groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID = FOREIGN


def foreign_frame_of_reference(seg: Dataset) -> None:
    seg.FrameOfReferenceUID = FOREIGN


def moved_plane(seg: Dataset) -> None:
    position = seg.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    x, y, z = position.ImagePositionPatient
    position.ImagePositionPatient = [x, y, float(z) + 6.0]


def foreign_predecessor(report: Dataset) -> None:
    report.PredecessorDocumentsSequence = list(report.CurrentRequestedProcedureEvidenceSequence)


def no_manufacturer(dataset: Dataset) -> None:
    dataset.Manufacturer = ""


def another_patient(dataset: Dataset) -> None:
    dataset.PatientID = "SOMEBODY-ELSE"


SPOILS: dict[str, tuple[OutputKind, Callable[[Dataset], None], str]] = {
    "first volume": (SR, another_value(codes.VOLUME, 0), "118565006"),
    "volume bound": (SR, another_value(codes.volume_bound("upper", 0.9), 0), "VOLUME-UPPER-90"),
    "last volume": (SR, another_value(codes.VOLUME, -1), "118565006"),
    "volumes of two lesions": (SR, swap_volumes, "118565006"),
    "probability": (SR, another_value(codes.PROBABILITY_OF_CANCER, 0), "111047"),
    "probability's spread": (SR, another_value(codes.PROBABILITY_OF_CANCER, 1), "111047"),
    "5-year survival": (SR, another_value(codes.survival(5), 0), "SURVIVAL-5Y"),
    "lesion count": (SR, another_value(codes.LESION_COUNT, 0), "LESION-COUNT"),
    "sentence's answer": (SR, another_text(codes.CONCLUSION, "likely", "not likely"), "numbers: answer"),
    "sentence's probability": (SR, another_text(codes.CONCLUSION, "(0.93", "(0.94"), "numbers: probability"),
    "sentence's low bound": (SR, another_text(codes.CONCLUSION, "0.89-", "0.88-"), "numbers: interval"),
    "sentence's high bound": (SR, another_text(codes.CONCLUSION, "-0.97", "-0.98"), "numbers: interval"),
    "sentence's lesions": (SR, another_text(codes.CONCLUSION, "2 lesions", "3 lesions"), "numbers: lesions"),
    "sentence's volume": (SR, another_text(codes.CONCLUSION, " mL in all", "5 mL in all"), "numbers: volume"),
    "sentence's doubt": (SR, another_text(codes.CONCLUSION, "unlike", "like"), "numbers: doubts"),
    "sentence's form": (SR, another_text(codes.CONCLUSION, ".", "!"), "numbers: its form"),
    "sentence's place": (SR, conclusion_last, "come first"),
    "what was read": (SR, another_text(codes.READ, "MR series", "CT series"), "what was read"),
    "what was left": (SR, another_text(codes.NOT_READ, "localizer", "head"), "what was read"),
    "no uncertainty": (SR, drop(codes.UNCERTAINTY_SCORE), "missing or too many"),
    "answer": (SR, another_answer, "answer"),
    "outline": (SR, another_outline, "refer to the outline"),
    "evidence": (SR, foreign_evidence, "evidence"),
    "predecessor": (SR, foreign_predecessor, "predecessor"),
    "patient of the report": (SR, another_patient, "PatientID"),
    "derivation": (SEG, foreign_derivation, "not the source's"),
    "frame of reference": (SEG, foreign_frame_of_reference, "frame of reference"),
    "plane": (SEG, moved_plane, "mm from the model's"),
    "manufacturer": (SEG, no_manufacturer, "Manufacturer missing"),
    "patient of the outline": (SEG, another_patient, "PatientID"),
}


@pytest.mark.parametrize("name", list(SPOILS))
def test_what_was_spoiled_is_held(sound: Case, name: str) -> None:
    """One wrong number, reference, place or identity keeps the object here, and the sentence says which."""
    kind, spoil, said = SPOILS[name]
    dataset = pydicom.dcmread(BytesIO(sound.contents[kind]))
    spoil(dataset)
    with pytest.raises(UnprocessableError, match=said) as caught:
        check(sound.context, sound.labels, {**sound.contents, kind: encode(dataset)})
    assert caught.value.reason == Reason.CONFORMANCE
    assert "SOMEBODY-ELSE" not in str(caught.value)


def evident(dataset: Dataset) -> dict[str, set[str]]:
    """Return the SOP Instance UIDs of a report's evidence, or of a SEG's references, by series."""
    studies = dataset.get("CurrentRequestedProcedureEvidenceSequence") or [dataset]
    return {
        str(series.SeriesInstanceUID): {
            str(item.ReferencedSOPInstanceUID)
            for item in series.get("ReferencedSOPSequence") or series.ReferencedInstanceSequence
        }
        for study in studies
        for series in study.ReferencedSeriesSequence
    }


def test_the_ct_of_a_pet_is_evidence_of_the_report_alone(tmp_path: Path) -> None:
    """Both were read, so both are evidence; the outline lies on the PET; a report without the CT is held."""
    built = petct(tmp_path)
    report, seg = (pydicom.dcmread(BytesIO(built.contents[kind])) for kind in (SR, SEG))
    pet, ct = (
        {str(series.header.SeriesInstanceUID): {f.sop_instance_uid for f in series.frames}}
        for series in (built.context.source, *built.context.others)
    )
    assert evident(report) == {**pet, **ct, str(seg.SeriesInstanceUID): {str(seg.SOPInstanceUID)}}
    assert evident(seg).keys() == pet.keys()
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    study.ReferencedSeriesSequence = [s for s in study.ReferencedSeriesSequence if s.SeriesInstanceUID not in ct]
    with pytest.raises(UnprocessableError, match="all that was read"):
        check(built.context, built.labels, {**built.contents, SR: encode(report)})


@pytest.fixture(scope="module")
def unread(tmp_path_factory: pytest.TempPathFactory) -> RefusedCase:
    """A report that a study was not read, which the gate lets through."""
    request = StudyRequest(seed=3, spacing=COARSE, layout=Layout(spacing=COARSE, matrix=(64, 64)))
    made = make_brain_mri(request, tmp_path_factory.mktemp("unread")).series["FLAIR"]
    built = refused(made, Reason.MISSING_SLICES)
    check_not_processed(built.context, built.content)
    return built


def another_sentence(report: Dataset) -> None:
    for item in items(report):
        if item.ValueType == "TEXT" and item.ConceptNameCodeSequence[0].CodeValue == codes.CONCLUSION.value:
            item.TextValue = "Tumour not likely."


def another_reason(report: Dataset) -> None:
    for item in items(report):
        if item.ValueType == "CODE" and item.ConceptNameCodeSequence[0].CodeValue == codes.NOT_PROCESSED_REASON.value:
            item.ConceptCodeSequence[0].CodeValue = codes.REASONS[Reason.NO_CT].value


def forgotten_instance(report: Dataset) -> None:
    series = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    del series.ReferencedSOPSequence[3]


REFUSAL_SPOILS: dict[str, tuple[Callable[[Dataset], None], str]] = {
    "sentence": (another_sentence, "what was refused"),
    "reason": (another_reason, "what was refused"),
    "evidence": (forgotten_instance, "evidence"),
    "predecessor": (foreign_predecessor, "predecessor"),
    "patient": (another_patient, "PatientID"),
}


@pytest.mark.parametrize("name", list(REFUSAL_SPOILS))
def test_a_spoiled_report_of_a_refusal_is_held(unread: RefusedCase, name: str) -> None:
    """A report that says another thing than the refusal does not leave."""
    spoil, said = REFUSAL_SPOILS[name]
    dataset = pydicom.dcmread(BytesIO(unread.content))
    spoil(dataset)
    with pytest.raises(UnprocessableError, match=said):
        check_not_processed(unread.context, encode(dataset))


@pytest.mark.parametrize("kind", [SEG, SR])
def test_a_missing_object_is_held(sound: Case, kind: OutputKind) -> None:
    """An outline without its report does not leave, nor a report without its outline."""
    rest = {k: v for k, v in sound.contents.items() if k != kind}
    with pytest.raises(UnprocessableError, match="is due"):
        check(sound.context, sound.labels, rest)


def test_a_report_without_fitted_survival_names_no_risk(sound: Case) -> None:
    """The gate takes it without score, class or years, and holds one that gives them."""
    findings = replace(sound.context.findings, survival_risk=None, risk_class=None, survival={})
    context = replace(sound.context, findings=findings)
    outline = pydicom.dcmread(BytesIO(sound.contents[SEG]))
    content = encode(report.build(context, outline))
    check(context, sound.labels, {**sound.contents, SR: content})
    for concept in (codes.RISK_SCORE.value, codes.RISK_CLASS.value, "SURVIVAL-"):
        assert concept.encode() not in content
        assert concept.encode() in sound.contents[SR]
    with pytest.raises(UnprocessableError, match="RISK-SCORE"):
        check(context, sound.labels, sound.contents)
    unclassed = replace(sound.context, findings=replace(sound.context.findings, risk_class=None))
    with pytest.raises(UnprocessableError, match="risk class"):
        check(unclassed, sound.labels, sound.contents)
