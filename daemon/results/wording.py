"""What pictures and pages say beside the report's sentence."""

from daemon.domain.finding import Answer, Doubt, Findings, Lesion

CAUTION = "AI - research use only - not for diagnosis"
CAUTION_CLEARED = "AI result - to be confirmed by a radiologist"


def caution(*, research_use: bool) -> str:
    """Return what stands over every picture and page."""
    return CAUTION if research_use else CAUTION_CLEARED


def measured(lesion: Lesion, count: int) -> str:
    """Return a lesion's numbers."""
    hot = f", SUVmax {lesion.uptake.suv_max:.1f}" if lesion.uptake else ""
    return f"Lesion {lesion.number} of {count}: {lesion.volume_ml:.1f} ml, {lesion.longest_mm:.0f} mm{hot}"


def recommendation(findings: Findings) -> str:
    """Return what to do with an answer; never that a person need not look."""
    if Doubt.UNFAMILIAR in findings.uncertainty.doubts:
        return "Do not rely on this answer: the model does not know such images. Have a radiologist read them."
    return {
        Answer.LIKELY: "Have a radiologist look at the images, and at the outlined region first if there is one.",
        Answer.NOT_LIKELY: "A radiologist's reading stands: the model misses tumours, small and faint ones above all.",
        Answer.UNCERTAIN: "Have a radiologist read the images: the model cannot tell.",
        Answer.NOT_PROCESSED: "Have a radiologist read the images: the model has not.",
    }[findings.answer]
