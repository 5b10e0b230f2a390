"""Why a study was not processed, or why its answer is uncertain: a closed, coded list."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from daemon.domain.instance import Instance


class Reason(StrEnum):
    """A coded reason; the value is the code, `SENTENCES` holds what a person reads."""

    NO_ELIGIBLE_SERIES = "no-eligible-series"
    WRONG_MODALITY = "wrong-modality"
    WRONG_BODY_PART = "wrong-body-part"
    WRONG_SEQUENCE = "wrong-sequence"
    LOCALIZER = "localizer"
    DERIVED = "derived"
    TOO_FEW_SLICES = "too-few-slices"
    MISSING_SLICES = "missing-slices"
    MIXED_ORIENTATIONS = "mixed-orientations"
    INCONSISTENT_GEOMETRY = "inconsistent-geometry"
    FOUR_D = "four-dimensional"
    MIXED_PATIENTS = "mixed-patients"
    NO_GEOMETRY = "no-geometry"
    DAMAGED = "damaged-instances"
    UNREADABLE_PIXELS = "unreadable-pixels"
    COLOUR_PIXELS = "colour-pixels"
    NO_SUV = "no-suv"
    NO_CT = "no-ct-with-pet"
    NO_PET = "no-pet-with-ct"
    NO_SHARED_FRAME = "no-shared-frame-of-reference"
    CONFORMANCE = "conformance"
    MODEL = "model"
    TOO_LARGE = "too-large"
    STUDY_TOO_LARGE = "study-too-large"
    TIME_LIMIT = "time-limit"
    TOO_MANY_ATTEMPTS = "too-many-attempts"
    UNKNOWN = "unknown"


SENTENCES: dict[Reason, str] = {
    Reason.NO_ELIGIBLE_SERIES: "No series of the study fits an installed model.",
    Reason.WRONG_MODALITY: "The modality is not one an installed model reads.",
    Reason.WRONG_BODY_PART: "The body part is not one an installed model reads.",
    Reason.WRONG_SEQUENCE: "The MR sequence is not one the model reads.",
    Reason.LOCALIZER: "The series is a localizer.",
    Reason.DERIVED: "The series is derived or secondary, not acquired.",
    Reason.TOO_FEW_SLICES: "The series has too few slices for a volume.",
    Reason.MISSING_SLICES: "At least one slice is missing from the series.",
    Reason.MIXED_ORIENTATIONS: "The slices do not share one orientation.",
    Reason.INCONSISTENT_GEOMETRY: "Rows, columns, pixel spacing or frame of reference differ between slices.",
    Reason.FOUR_D: "The series holds several volumes at the same positions (4D).",
    Reason.MIXED_PATIENTS: "Instances of one study name different patients.",
    Reason.NO_GEOMETRY: "Image position, orientation or frame of reference is absent.",
    Reason.DAMAGED: "Received instances are gone from the spool, or are no longer what was received.",
    Reason.UNREADABLE_PIXELS: "The pixel data cannot be decoded.",
    Reason.COLOUR_PIXELS: "The pixel data are colour, not monochrome.",
    Reason.NO_SUV: "The PET lacks what an SUV needs (weight, dose, half-life or times).",
    Reason.NO_CT: "The PET has no CT series beside it.",
    Reason.NO_PET: "The CT has no PET series beside it.",
    Reason.NO_SHARED_FRAME: "PET and CT share neither frame of reference nor space.",
    Reason.CONFORMANCE: "A result object failed the conformance gate and was held.",
    Reason.MODEL: "The model failed on this input.",
    Reason.TOO_LARGE: "The study needs more memory than a worker may use.",
    Reason.STUDY_TOO_LARGE: "The study has more instances or bytes than are taken; what came of it is not read.",
    Reason.TIME_LIMIT: "The job took longer than it may.",
    Reason.TOO_MANY_ATTEMPTS: "The job failed on every attempt.",
    Reason.UNKNOWN: "An unexpected error ended the job.",
}


@dataclass(frozen=True, kw_only=True)
class Cause:
    """A reason as a report says it: its code (at most 16 characters), what it means in short, what to do about it."""

    code: str
    meaning: str
    mend: str


_OURS = "Tell the administrator of Overread, who can retry it."
_READ_FOR = frozenset({"MR", "PT"})
# No report is made of what nobody sent to be read: other modalities, other parts of the body, a CT alone, scouts and
# reformats; nor of a study that names two patients, because nobody can tell whose record it would lie in.
REPORTED: Mapping[Reason, Cause] = {
    Reason.WRONG_SEQUENCE: Cause(
        code="SEQUENCE", meaning="No sequence that is read", mend="Send a sequence that an installed model reads."
    ),
    Reason.TOO_FEW_SLICES: Cause(code="FEW-SLICES", meaning="Too few slices", mend="Send the whole series."),
    Reason.MISSING_SLICES: Cause(code="MISSING-SLICES", meaning="Missing slices", mend="Send the missing slices."),
    Reason.MIXED_ORIENTATIONS: Cause(
        code="ORIENTATIONS", meaning="Mixed orientations", mend="Send each orientation as a series of its own."
    ),
    Reason.INCONSISTENT_GEOMETRY: Cause(
        code="GEOMETRY", meaning="Inconsistent geometry", mend="Send the series in one geometry, as it was acquired."
    ),
    Reason.FOUR_D: Cause(code="FOUR-D", meaning="Several volumes in one series", mend="Send one volume as a series."),
    Reason.NO_GEOMETRY: Cause(
        code="NO-GEOMETRY", meaning="No geometry", mend="Send the images as the scanner made them, not a copy."
    ),
    Reason.DAMAGED: Cause(code="DAMAGED", meaning="Damaged after receipt", mend="Send the study again."),
    Reason.UNREADABLE_PIXELS: Cause(
        code="PIXELS", meaning="Pixel data not readable", mend="Send it again uncompressed (Explicit VR Little Endian)."
    ),
    Reason.COLOUR_PIXELS: Cause(code="COLOUR", meaning="Colour images", mend="Send the monochrome images."),
    Reason.NO_SUV: Cause(
        code="NO-SUV", meaning="No SUV", mend="Correct weight, dose and times at the scanner, then send the PET again."
    ),
    Reason.NO_CT: Cause(code="NO-CT", meaning="PET without CT", mend="Send the CT of the same examination."),
    Reason.NO_SHARED_FRAME: Cause(
        code="APART", meaning="PET and CT do not fit", mend="Send the PET and the CT of one examination."
    ),
    Reason.CONFORMANCE: Cause(code="HELD", meaning="Result held by its check", mend=_OURS),
    Reason.MODEL: Cause(code="MODEL", meaning="Model failed", mend=_OURS),
    Reason.TOO_LARGE: Cause(code="TOO-LARGE", meaning="Too large", mend=_OURS),
    Reason.STUDY_TOO_LARGE: Cause(code="STUDY-TOO-LARGE", meaning="Study too large", mend=_OURS),
    Reason.TIME_LIMIT: Cause(code="TIME-LIMIT", meaning="Took too long", mend=_OURS),
    Reason.TOO_MANY_ATTEMPTS: Cause(code="ATTEMPTS", meaning="Failed on every attempt", mend=_OURS),
    Reason.UNKNOWN: Cause(code="UNKNOWN", meaning="Unexpected error", mend=_OURS),
}


def deserves_report(reason: str, instances: Sequence[Instance]) -> bool:
    """Tell whether somebody may expect an answer of a study that is not read for `reason`; only of one patient."""
    modalities = {instance.acquisition.modality for instance in instances}
    return reason in REPORTED and not _READ_FOR.isdisjoint(modalities) and len({i.patient_key for i in instances}) == 1
