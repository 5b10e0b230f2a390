"""What a report says in plain words; ASCII, which every character set of a source holds."""

from daemon.domain.codes import ANSWERS
from daemon.domain.finding import Answer, Estimate, Findings

# Two-sided 95 % of a normal distribution.
Z_95 = 1.96


def conclusion(findings: Findings, *, sure: bool = True, measured: bool = True) -> str:
    """Return the answer in a sentence or three: what, how sure, lesions, and why a person should look.

    The interval is that of the passes, see `spread`: nothing else of the probability is known. With `sure` False it was
    one pass alone; with `measured` False lesions are counted only, as on an image whose scale nobody knows.
    """
    interval = "95 % {:.2f}-{:.2f}".format(*spread(findings.tumour_probability)) if sure else "one pass"
    said = f"({probability(findings.tumour_probability.mean)}, {interval})"
    lesions = _lesions(findings) if measured else _regions(findings)
    doubts = "; ".join(doubt.sentence for doubt in findings.uncertainty.doubts)
    if findings.answer is Answer.UNCERTAIN:
        return " ".join((f"{ANSWERS[findings.answer].meaning}: {doubts} {said}.", *lesions))
    review = (f"Needs review: {doubts}.",) if doubts else ()
    return " ".join((f"{ANSWERS[findings.answer].meaning} {said}.", *lesions, *review))


def sureness(findings: Findings) -> str:
    """Return what the numbers of sureness are, for who reads them for the first time."""
    told = (
        f"95 % is where {findings.passes} passes of the model with random dropout lie (mean plus or minus {Z_95} "
        "standard deviations, within 0-1): the model's own spread, not the chance that it is right. Uncertainty of the "
        f"outline {findings.uncertainty.score:.2f} of 1."
    )
    if findings.volume_ml is None:
        return told
    bounds = findings.volume_ml
    within = f"within {_volume(bounds.low)}-{_volume(bounds.high)} mL in {round(100 * bounds.coverage)} % of studies"
    return f"{told} The volume lies {within} like those of the calibration."


def no_survival(findings: Findings) -> str:
    """Return why no probability of being alive is given."""
    if findings.survival_risk is None:
        return "Survival: not fitted. The model was calibrated without follow-up."
    return "Survival at no year: the model was calibrated on a follow-up of less than one."


def spread(estimate: Estimate) -> tuple[float, float]:
    """Return where 95 % of the passes lie, were they normally distributed: mean and SD are what the model gives."""
    half = Z_95 * estimate.sd
    return max(estimate.mean - half, 0.0), min(estimate.mean + half, 1.0)


def _lesions(findings: Findings) -> tuple[str, ...]:
    volumes = [lesion.volume_ml for lesion in findings.lesions]
    if not volumes:
        return ()
    if len(volumes) == 1:
        return (f"One lesion, {_volume(volumes[0])} mL.",)
    return (f"{len(volumes)} lesions, {_volume(sum(volumes))} mL in all, the largest {_volume(max(volumes))} mL.",)


def _regions(findings: Findings) -> tuple[str, ...]:
    count = len(findings.lesions)
    return (f"{'One region' if count == 1 else f'{count} regions'} outlined.",) if count else ()


def probability(value: float) -> str:
    """Return two digits; never 0 or 1, which no model knows."""
    text = f"{value:.2f}"
    return {"0.00": "<0.01", "1.00": ">0.99"}.get(text, text)


def _volume(millilitres: float) -> str:
    return f"{millilitres:.1f}" if millilitres >= 1 else f"{millilitres:.3f}"
