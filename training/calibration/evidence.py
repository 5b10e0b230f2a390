"""The evidence in words, the same in the command's table and on the model card."""

import math
from collections.abc import Iterator

from training.calibration.fit import Fitted
from training.calibration.guarantees import cases_needed

Row = tuple[str, str, str]


def rows(fitted: Fitted) -> Iterator[Row]:
    """Yield what was fitted, its value and what it rests on."""
    found, numbers = fitted.evidence, fitted.calibration
    aim = found.settings
    tested = f"{found.testing} studies"
    error = f"{number(found.tumour_ece)}; right probabilities would show {number(found.tumour_ece_by_chance)}"
    yield "error of the tumour probability (ECE)", error, tested
    yield "error of voxel probabilities (ECE)", number(found.voxel_ece), f"conceivable voxels of {tested}"
    reached = f"threshold {numbers.threshold:.3f}, sensitivity {number(found.sensitivity.reached)}"
    counted = f"{found.sensitivity.cases} patients with a tumour of {found.sensitivity_ml:g} ml or more"
    yield "tumour answer", f"{reached}, specificity {number(found.specificity)}", counted
    yield f"sensitivity of at least {aim.sensitivity:g}", _guarantee(fitted), _how(fitted)
    held = "in expectation" if found.missed.guaranteed and found.apart else "not guaranteed"
    outer = f"mask threshold {found.missed.value:.2f}, {held}"
    yield f"outline that misses at most {aim.missed_voxels:g} of a tumour", outer, _bearing(found.missed.cases)
    yield "shipped outline", f"mask threshold {numbers.mask_threshold:.2f}", f"chosen by {aim.mask}"
    outlined = f"{found.volume_cases} patients with an outline"
    yield f"volume interval of {aim.volume_coverage:.0%} coverage", _spread(fitted), outlined
    yield "entropy limit of an outline", f"{numbers.entropy_limit:.3f}", f"{found.failed} failed outlines"
    yield f"telling outlines of Dice below {aim.good_dice:g} (AUROC)", number(found.failure_auroc), "all studies"
    limit = "none" if fitted.bank is None else f"{numbers.novelty_limit:.3f}, {found.novelty_coverage:.1%} stay below"
    yield "novelty limit", limit, "each study against other patients'"
    alive = ", ".join(f"{year} y {value:.2f}" for year, value in sorted(numbers.baseline_survival.items()))
    none = "no year within follow-up" if numbers.survival_fitted else "not fitted"
    yield "baseline survival (Breslow)", alive if alive and numbers.survival_fitted else none, f"{found.survival_cases}"


def _guarantee(fitted: Fitted) -> str:
    if fitted.evidence.sensitivity.guaranteed:
        return f"guaranteed with probability {1 - fitted.evidence.settings.delta:g}"
    return "NOT guaranteed"


def _how(fitted: Fitted) -> str:
    found, aim = fitted.evidence, fitted.evidence.settings
    if found.sensitivity.guaranteed:
        return "Learn-then-Test on studies that chose nothing"
    if not found.apart:
        return "too few studies to keep those that choose and those that test apart"
    needed = cases_needed(aim.sensitivity, aim.delta)
    return f"no threshold passed; it takes at least {_bearing(needed)}, all found"


def _bearing(patients: int) -> str:
    return f"{patients} patients with a tumour"


def _spread(fitted: Fitted) -> str:
    spread = fitted.calibration.volume_log_spread
    return "none, too few" if math.isinf(spread) else f"(v + 1) times or over {math.exp(spread):.2f}, less 1 ml"


def number(value: float) -> str:
    """Return a figure in three places, or that there is none."""
    return "n/a" if math.isnan(value) else f"{value:.3f}"
