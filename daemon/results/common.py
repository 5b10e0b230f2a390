"""Modules that every result object carries (PS3.3 C.7.1, C.7.2, C.12.1)."""

from collections.abc import Iterator

from highdicom import sr
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from daemon import uids
from daemon.domain.codes import ACQUISITION_EQUIPMENT, PROCESSING_EQUIPMENT, Concept
from daemon.results.context import MANUFACTURER, MODEL_NAME, Origin, RefusalContext, ResultContext
from daemon.results.shown import bare, shown

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


def sample_header(context: RefusalContext) -> Dataset:
    """Return the sample's header as highdicom reads it, as `source_headers` does."""
    return bare(context.header, _EMPTY_WHERE_ABSENT)


def slice_header(context: ResultContext, index: int) -> Dataset:
    """Return a copy of slice `index`'s own header as highdicom reads it; `stamp` puts back what is left out of it."""
    return bare(context.source.header_of(index), _EMPTY_WHERE_ABSENT)


def stamp(dataset: Dataset, context: Origin) -> None:
    """Give `dataset` the source's patient and study, our equipment, the job's time and the research marking.

    What the source does not say stays empty: no identifier is invented.
    """
    header = context.header
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
    if context.model.digest:
        dataset.DeviceSerialNumber = context.model.digest[:16]
    dataset.ContributingEquipmentSequence = list(_equipment(context))
    if context.research_use:
        dataset.ContentQualification = "RESEARCH"


def observing_device(context: Origin) -> sr.ObserverContext:
    """Return the device that observed: the model, or the daemon alone where none was chosen."""
    model = context.model
    return sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=uids.derive(uids.Role.OBSERVER, model.digest),
            name=MODEL_NAME,
            manufacturer_name=MANUFACTURER,
            model_name=f"{model.name or MODEL_NAME} {model.version or context.software_version}",
            serial_number=model.digest[:16] or None,
        ),
    )


def maker(context: ResultContext) -> dict[str, str]:
    """Return what highdicom asks of who makes an object, and of who made its content: nobody but us."""
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": MODEL_NAME,
        "software_versions": context.software_version,
        "device_serial_number": context.bundle.ref.digest[:16],
        "content_creator_name": f"{MANUFACTURER}^",
    }


def derive_dimensions(dataset: Dataset, uid: str) -> None:
    """Replace the random Dimension Organization UID, so that a repeat gives the same object."""
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid


def _equipment(context: Origin) -> Iterator[Dataset]:
    header = context.header
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
    model = [f"{context.model.name} {context.model.version}"] if context.model.name else []
    ours.SoftwareVersions = [context.software_version, *model]
    ours.DeviceUID = context.device_uid
    yield ours
