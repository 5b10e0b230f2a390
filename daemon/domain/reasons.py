"""Why a study was not processed, or why its answer is uncertain: a closed, coded list."""

from enum import StrEnum


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
    TOO_MANY_INSTANCES = "too-many-instances"
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
    Reason.TOO_MANY_INSTANCES: "The study has more instances than are taken; those that came are not read.",
    Reason.TIME_LIMIT: "The job took longer than it may.",
    Reason.TOO_MANY_ATTEMPTS: "The job failed on every attempt.",
    Reason.UNKNOWN: "An unexpected error ended the job.",
}
