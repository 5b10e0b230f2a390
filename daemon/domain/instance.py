"""Instances and series as the ledger knows them: facts read once from headers, no patient data."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

Vector = tuple[float, float, float]
Cosines = tuple[float, float, float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Where a single-frame instance lies in the patient (PS3.3 C.7.6.2); lengths in mm."""

    position: Vector
    orientation: Cosines
    pixel_spacing: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class AcquisitionFacts:
    """What the selection rules ask of an instance; an absent attribute is empty or None."""

    modality: str
    image_type: tuple[str, ...] = ()
    series_description: str = ""
    protocol_name: str = ""
    body_part: str = ""
    scanning_sequence: tuple[str, ...] = ()
    echo_time: float | None = None
    repetition_time: float | None = None
    inversion_time: float | None = None
    contrast_agent: str = ""
    units: str = ""
    corrected_image: tuple[str, ...] = ()
    series_number: int | None = None
    acquisition_number: int | None = None
    temporal_position: int | None = None
    images_in_acquisition: int | None = None
    samples_per_pixel: int = 1
    requested_priority: str = ""


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One SOP Instance in the spool.

    `digest` is the SHA-256 of the whole stored file in hex; `patient_key` is a keyed hash of Patient ID and
    issuer, so that two patients can be told apart without naming either.
    """

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    transfer_syntax_uid: str
    frame_of_reference_uid: str
    patient_key: str
    digest: str
    size: int
    rows: int
    columns: int
    frames: int
    instance_number: int | None
    geometry: Geometry | None
    acquisition: AcquisitionFacts
    received_at: datetime


@dataclass(frozen=True, kw_only=True)
class Series:
    """The instances of one Series Instance UID, in no particular order; at least one."""

    series_instance_uid: str
    instances: tuple[Instance, ...]

    @property
    def first(self) -> Instance:
        """Return any one instance, for attributes that a series shares."""
        return self.instances[0]

    @property
    def modality(self) -> str:
        """Return Modality (0008,0060)."""
        return self.first.acquisition.modality

    @property
    def words(self) -> str:
        """Return what a person calls it."""
        images = sum(instance.frames for instance in self.instances)
        return in_words(self.modality, self.first.acquisition.series_number, images)


def in_words(modality: str, number: int | None, images: int) -> str:
    """Return what a person calls a series, in ASCII; a header's own words might name somebody."""
    kind = modality if modality.isascii() and modality.isalnum() else "unknown"
    return f"{kind} series {'without number' if number is None else number}, {images} images"


def by_series(instances: Sequence[Instance]) -> tuple[Series, ...]:
    """Group instances by Series Instance UID, ordered by UID."""
    groups: dict[str, list[Instance]] = {}
    for instance in instances:
        groups.setdefault(instance.series_instance_uid, []).append(instance)
    return tuple(Series(series_instance_uid=uid, instances=tuple(group)) for uid, group in sorted(groups.items()))
