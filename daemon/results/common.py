"""Modules that every result object carries (PS3.3 C.7.1, C.7.2, C.12.1)."""

from collections.abc import Iterator

from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset

from daemon.domain.codes import ACQUISITION_EQUIPMENT, PROCESSING_EQUIPMENT, Concept
from daemon.results.context import MANUFACTURER, MODEL_NAME, ResultContext
from daemon.results.shown import shown

_COPIED = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "OtherPatientIDsSequence",
    "PatientBirthDate",
    "PatientBirthTime",
    "PatientSex",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "PatientComments",
    "EthnicGroup",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "IssuerOfAccessionNumberSequence",
    "ReferringPhysicianName",
    "SpecificCharacterSet",
)
_EMPTY_WHERE_ABSENT = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
_SCANNER = (
    "Manufacturer",
    "InstitutionName",
    "StationName",
    "ManufacturerModelName",
    "DeviceSerialNumber",
    "SoftwareVersions",
)


def coded(concept: Concept) -> CodedConcept:
    """Return the concept as highdicom wants it."""
    return CodedConcept(concept.value, concept.scheme, concept.meaning)


def triple(values: tuple[str, str, str]) -> CodedConcept:
    """Return a manifest's code."""
    return CodedConcept(*values)


def source_headers(context: ResultContext) -> list[Dataset]:
    """Return the reference series' headers as highdicom reads them; `stamp` puts back what is left out of them."""
    return shown(context.source, _EMPTY_WHERE_ABSENT)


def stamp(dataset: Dataset, context: ResultContext) -> None:
    """Give `dataset` the source's patient and study, our equipment, the job's time and the research marking.

    What the source does not say stays empty: no identifier is invented.
    """
    header = context.source.header
    for keyword in _COPIED:
        if keyword in header:
            dataset[keyword] = header[keyword]
        elif keyword in dataset:
            del dataset[keyword]
    for keyword in _EMPTY_WHERE_ABSENT:
        if keyword not in dataset:
            setattr(dataset, keyword, "")
    dataset.SeriesDate = dataset.ContentDate = dataset.InstanceCreationDate = context.date
    dataset.SeriesTime = dataset.ContentTime = dataset.InstanceCreationTime = context.time
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = MODEL_NAME
    dataset.SoftwareVersions = context.software_version
    dataset.DeviceSerialNumber = context.bundle.ref.digest[:16]
    dataset.ContributingEquipmentSequence = list(_equipment(context))
    if context.research_use:
        dataset.ContentQualification = "RESEARCH"


def _equipment(context: ResultContext) -> Iterator[Dataset]:
    header = context.source.header
    yield from header.get("ContributingEquipmentSequence") or ()
    scanner = Dataset()
    for keyword in _SCANNER:
        if header.get(keyword):
            scanner[keyword] = header[keyword]
    scanner.PurposeOfReferenceCodeSequence = [coded(ACQUISITION_EQUIPMENT)]
    if header.get("Manufacturer"):
        yield scanner
    ours = Dataset()
    ours.PurposeOfReferenceCodeSequence = [coded(PROCESSING_EQUIPMENT)]
    ours.Manufacturer = MANUFACTURER
    ours.ManufacturerModelName = MODEL_NAME
    ours.SoftwareVersions = [context.software_version, f"{context.bundle.ref.name} {context.bundle.ref.version}"]
    ours.DeviceUID = context.device_uid
    yield ours
