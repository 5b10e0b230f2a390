"""Header facts of a received file, read once; pixels are never touched."""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Any

import pydicom
from pydicom.tag import Tag

from daemon.domain.instance import AcquisitionFacts, Geometry, Instance
from daemon.errors import RefusedError
from daemon.imaging.header import Element, Header, Kind, QuickHeader, glance
from daemon.imaging.unpack import MOST_HEADER, opened
from daemon.uids import is_uid

_SEVERAL = ("ImageType", "ScanningSequence", "CorrectedImage", "ImagePositionPatient", "ImageOrientationPatient")
_TEXTS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "PatientID",
    "IssuerOfPatientID",
    "Modality",
    "SeriesDescription",
    "ProtocolName",
    "BodyPartExamined",
    "EchoTime",
    "RepetitionTime",
    "InversionTime",
    "ContrastBolusAgent",
    "Units",
    "RequestedProcedurePriority",
)
_WHOLES = (
    "SeriesNumber",
    "AcquisitionNumber",
    "InstanceNumber",
    "TemporalPositionIdentifier",
    "ImagesInAcquisition",
    "NumberOfFrames",
)
_SHORTS = ("SamplesPerPixel", "Rows", "Columns")
_KINDS = {
    **dict.fromkeys(_TEXTS, Kind.TEXT),
    **dict.fromkeys((*_SEVERAL, "PixelSpacing"), Kind.TEXTS),
    **dict.fromkeys(_WHOLES, Kind.WHOLE),
    **dict.fromkeys(_SHORTS, Kind.SHORT),
}
_WANTED = {int(Tag(keyword)): Element(keyword=keyword, kind=kind) for keyword, kind in _KINDS.items()}
_REQUIRED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What is known of a file besides its header: SHA-256, size in bytes, when it came, the key that hides patients."""

    digest: str
    size: int
    received_at: datetime
    patient_salt: bytes


def look(head: bytes) -> QuickHeader | None:
    """Return what a file's first bytes say of it, None where that needs pydicom, or more of the file."""
    return glance(head, _WANTED)


def read_facts(path: Path, stored: Stored, seen: QuickHeader | None = None) -> Instance:
    """Return the facts of the DICOM file at `path`; `seen` is what its first bytes said where they were at hand.

    Raises:
        RefusedError: it is no DICOM file, is cut off within its header, or a UID is absent or none.
        OSError: it cannot be read now, which says nothing of what it is.
    """
    try:
        header, syntax = (seen, seen.transfer_syntax_uid) if seen else _header(path)
        missing = [k for k in _REQUIRED if not is_uid(str(header.get(k) or ""))]
        instance = None if missing else _instance(header, syntax, stored)
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        # Whatever a malformed header makes the parser raise, the answer to the sender is the same.
        raise RefusedError(f"the header cannot be parsed ({type(error).__name__})") from error
    if instance is None:
        raise RefusedError(f"{', '.join(missing)} absent or no UID: not a DICOM instance that can be kept apart")
    return instance


def _header(path: Path) -> tuple[Header, str]:
    """Return the header and the transfer syntax UID of a file."""
    source, syntax = opened(path, MOST_HEADER)
    return pydicom.dcmread(source, stop_before_pixels=True, specific_tags=list(_KINDS)), str(syntax)


def _instance(header: Header, transfer_syntax: str, stored: Stored) -> Instance:
    patient = f"{header.get('IssuerOfPatientID', '')}\x1f{header.get('PatientID', '')}"
    return Instance(
        sop_class_uid=str(header.get("SOPClassUID")),
        sop_instance_uid=str(header.get("SOPInstanceUID")),
        series_instance_uid=str(header.get("SeriesInstanceUID")),
        study_instance_uid=str(header.get("StudyInstanceUID")),
        transfer_syntax_uid=transfer_syntax,
        frame_of_reference_uid=str(header.get("FrameOfReferenceUID") or ""),
        patient_key=hmac.digest(stored.patient_salt, patient.encode(), "sha256").hex(),
        digest=stored.digest,
        size=stored.size,
        rows=int(header.get("Rows") or 0),
        columns=int(header.get("Columns") or 0),
        frames=int(header.get("NumberOfFrames") or 1),
        instance_number=_integer(header.get("InstanceNumber")),
        geometry=_geometry(header),
        acquisition=_acquisition(header),
        received_at=stored.received_at,
    )


def _geometry(header: Header) -> Geometry | None:
    position = _floats(header.get("ImagePositionPatient"), 3)
    orientation = _floats(header.get("ImageOrientationPatient"), 6)
    spacing = _floats(header.get("PixelSpacing"), 2)
    if not (position and orientation and spacing):
        return None
    if not (all(map(isfinite, (*position, *orientation, *spacing))) and min(spacing) > 0 and any(orientation)):
        return None
    a, b, c, d, e, f = orientation
    return Geometry(
        position=(position[0], position[1], position[2]),
        orientation=(a, b, c, d, e, f),
        pixel_spacing=(spacing[0], spacing[1]),
    )


def _acquisition(header: Header) -> AcquisitionFacts:
    return AcquisitionFacts(
        modality=str(header.get("Modality") or ""),
        image_type=_texts(header.get("ImageType")),
        series_description=str(header.get("SeriesDescription") or ""),
        protocol_name=str(header.get("ProtocolName") or ""),
        body_part=str(header.get("BodyPartExamined") or ""),
        scanning_sequence=_texts(header.get("ScanningSequence")),
        echo_time=_number(header.get("EchoTime")),
        repetition_time=_number(header.get("RepetitionTime")),
        inversion_time=_number(header.get("InversionTime")),
        contrast_agent=str(header.get("ContrastBolusAgent") or ""),
        units=str(header.get("Units") or ""),
        corrected_image=_texts(header.get("CorrectedImage")),
        series_number=_integer(header.get("SeriesNumber")),
        acquisition_number=_integer(header.get("AcquisitionNumber")),
        temporal_position=_integer(header.get("TemporalPositionIdentifier")),
        images_in_acquisition=_integer(header.get("ImagesInAcquisition")),
        samples_per_pixel=int(header.get("SamplesPerPixel") or 1),
        requested_priority=str(header.get("RequestedProcedurePriority") or ""),
    )


def _texts(value: Any) -> tuple[str, ...]:  # noqa: ANN401 - a DICOM value is a text or a list of texts
    if not value:
        return ()
    return (value,) if isinstance(value, str) else tuple(str(v) for v in value)


def _number(value: object) -> float | None:
    number = None if value in (None, "") else float(str(value))
    return number if number is None or isfinite(number) else None


def _integer(value: object) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _floats(values: object, count: int) -> list[float] | None:
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != count:
        return None
    return [float(str(v)) for v in values]
