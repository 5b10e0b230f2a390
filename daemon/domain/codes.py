"""Coded concepts: standard codes first; where none exists, scheme 99OVERREAD."""

from dataclasses import dataclass

from daemon.domain.finding import Answer, RiskClass
from daemon.domain.reasons import REPORTED

PRIVATE_SCHEME = "99OVERREAD"


@dataclass(frozen=True)
class Concept:
    """Code value, coding scheme designator, code meaning (PS3.3 8.8)."""

    value: str
    scheme: str
    meaning: str


NEOPLASM = Concept("108369006", "SCT", "Neoplasm")
ABNORMAL_STRUCTURE = Concept("49755003", "SCT", "Morphologically Abnormal Structure")
MEAN = Concept("373098007", "SCT", "Mean")
STANDARD_DEVIATION = Concept("386136009", "SCT", "Standard Deviation")
PROBABILITY_OF_CANCER = Concept("111047", "DCM", "Probability of cancer")
VOLUME = Concept("118565006", "SCT", "Volume")
LONGEST_DIAMETER = Concept("103339001", "SCT", "Long axis")
MAXIMUM = Concept("56851009", "SCT", "Maximum")
SUV = Concept("126401", "DCM", "SUVbw")
SUV_PEAK = Concept("126031", "DCM", "Peak Value Within ROI")
METABOLIC_VOLUME = Concept("126032", "DCM", "Metabolic Volume")
GLYCOLYSIS = Concept("126033", "DCM", "Total Lesion Glycolysis")
ACQUISITION_EQUIPMENT = Concept("109101", "DCM", "Acquisition Equipment")
SOURCE_IMAGE = Concept("121322", "DCM", "Source image for image processing operation")
PROCESSING_EQUIPMENT = Concept("109102", "DCM", "Processing Equipment")
ONCOLOGY_REPORT = Concept("126001", "DCM", "Oncology Measurement Report")
PROCEDURE_REPORTED = Concept("121058", "DCM", "Procedure reported")
QUALITATIVE_EVALUATIONS = Concept("C0034375", "UMLS", "Qualitative Evaluations")
CONCLUSION = Concept("121077", "DCM", "Conclusion")
MR_IMAGING = Concept("25056-3", "LN", "MRI unspecified body region")
PET_IMAGING = Concept("44136-0", "LN", "PET unspecified body region")

RISK_SCORE = Concept("RISK-SCORE", PRIVATE_SCHEME, "Survival risk score, log hazard ratio")
RISK_CLASS = Concept("RISK-CLASS", PRIVATE_SCHEME, "Survival risk class")
UNCERTAINTY_SCORE = Concept("UNCERTAINTY", PRIVATE_SCHEME, "Uncertainty score of the outline")
REVIEW = Concept("REVIEW", PRIVATE_SCHEME, "Needs review because")
RESULT = Concept("RESULT", PRIVATE_SCHEME, "Result")
NOT_PROCESSED_REASON = Concept("REASON", PRIVATE_SCHEME, "Not processed because")
SURENESS = Concept("SURENESS", PRIVATE_SCHEME, "How sure")
READ = Concept("READ", PRIVATE_SCHEME, "Read")
NOT_READ = Concept("NOT-READ", PRIVATE_SCHEME, "Not read")
RECEIVED = Concept("RECEIVED", PRIVATE_SCHEME, "Received")
VOXEL_ENTROPY = Concept("VOXEL-ENTROPY", PRIVATE_SCHEME, "Predictive entropy in units of ln 2")
VOXEL_PROBABILITY = Concept("VOXEL-PROBABILITY", PRIVATE_SCHEME, "Probability that the voxel is tumour")
LESION_COUNT = Concept("LESION-COUNT", PRIVATE_SCHEME, "Number of lesions")

RATIO = Concept("{0:1}", "UCUM", "range: 0:1")
NO_UNITS = Concept("1", "UCUM", "no units")
MILLILITRE = Concept("ml", "UCUM", "milliliter")
MILLIMETRE = Concept("mm", "UCUM", "millimeter")
SUV_UNIT = Concept("g/ml{SUVbw}", "UCUM", "Standardized Uptake Value body weight")
GRAM = Concept("g", "UCUM", "gram")

RISK_CLASSES = {
    RiskClass.LOW: Concept("75976002", "SCT", "Low risk"),
    RiskClass.MODERATE: Concept("25594002", "SCT", "Moderate risk"),
    RiskClass.HIGH: Concept("15508007", "SCT", "High risk"),
}
ANSWERS = {
    Answer.LIKELY: Concept("LIKELY", PRIVATE_SCHEME, "Tumour likely"),
    Answer.NOT_LIKELY: Concept("NOT-LIKELY", PRIVATE_SCHEME, "Tumour not likely"),
    Answer.UNCERTAIN: Concept("UNCERTAIN", PRIVATE_SCHEME, "Uncertain, needs review"),
    Answer.NOT_PROCESSED: Concept("NOT-PROCESSED", PRIVATE_SCHEME, "Not processed"),
}

REASONS = {reason: Concept(cause.code, PRIVATE_SCHEME, cause.meaning) for reason, cause in REPORTED.items()}


def volume_bound(side: str, coverage: float) -> Concept:
    """Return the concept of one side (lower, upper) of the interval that holds the volume of all lesions."""
    percent = round(100 * coverage)
    return Concept(f"VOLUME-{side.upper()}-{percent}", PRIVATE_SCHEME, f"Volume, {side} bound at {percent} % coverage")


def survival(years: int) -> Concept:
    """Return the concept of being alive after `years`."""
    return Concept(f"SURVIVAL-{years}Y", PRIVATE_SCHEME, f"Probability of survival at {years} years")
