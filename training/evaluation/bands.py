"""What each kind of answer turned out to be worth, and what the reader should do with it."""

from collections.abc import Callable, Sequence

import numpy as np

from daemon.domain.finding import Answer
from daemon.domain.model_bundle import Calibration
from training.evaluation.bootstrap import Bootstrap
from training.evaluation.cases import Case
from training.evaluation.detection import labels
from training.evaluation.segmentation import scores
from training.evaluation.uncertainty import FAILURE_DICE
from training.evaluation.values import Band, Measure

FEWEST = 20
SURE, USUAL, VAGUE = "tumour likely, sharp outline", "tumour likely, usual outline", "tumour likely, vague outline"
UNSURE, NONE = "uncertain", "tumour not likely"


def bands(cases: Sequence[Case], calibration: Calibration, bootstrap: Bootstrap) -> tuple[Band, ...]:
    """Return the bands from most to least confident in a tumour; each study is in one.

    A likely tumour's outline is sharp below half of the bundle's entropy limit and vague above the whole.
    """
    limit = calibration.entropy_limit
    low, high = calibration.uncertain_low, calibration.uncertain_high
    rules = {
        SURE: f"called likely; outline entropy up to {limit / 2:.2f}",
        USUAL: f"called likely; outline entropy up to {limit:.2f}",
        VAGUE: f"called likely; outline entropy above {limit:.2f}",
        UNSURE: f"probability {low:.2f} to {high:.2f}, passes that disagree, or an outline that contradicts the answer",
        NONE: f"called not likely: probability below {calibration.threshold:.2f} and no doubt",
    }
    names = [band_of(case, limit) for case in cases]
    return tuple(_band(name, rule, (cases, names), bootstrap) for name, rule in rules.items())


def band_of(case: Case, entropy_limit: float) -> str:
    """Return the name of a study's band."""
    if case.findings.answer is Answer.UNCERTAIN:
        return UNSURE
    if case.findings.answer is Answer.NOT_LIKELY:
        return NONE
    score = case.findings.uncertainty.score
    if score > entropy_limit:
        return VAGUE
    return SURE if score <= entropy_limit / 2 else USUAL


def _band(name: str, rule: str, members: tuple[Sequence[Case], Sequence[str]], bootstrap: Bootstrap) -> Band:
    cases, names = members
    inside = np.array([n == name for n in names], dtype=bool)
    label, dice = labels(cases), scores(cases, "dice")
    outlined = inside & np.isfinite(dice) & (name != NONE)
    wanted = 0 if name == NONE else 1
    empty = "no study fell into this band"
    why = empty if not inside.any() else "no study in this band is labelled"
    right = bootstrap.share(label == wanted, inside & np.isfinite(label) & (name != UNSURE), why)
    if name == UNSURE:
        right = Measure(value=None, n=int(inside.sum()), missing="no answer was given")
    unmasked = empty if not inside.any() else "no outline in this band has a mask to compare with"
    no_outline = "nothing is outlined in this band" if name == NONE else unmasked
    failed = bootstrap.share(dice < FAILURE_DICE, outlined, no_outline)
    return Band(
        name=name,
        rule=rule,
        studies=int(inside.sum()),
        right=right,
        dice=bootstrap.measure(lambda i: float(np.median(dice[i])), outlined, no_outline),
        failed=failed,
        recommendation=recommendation(name, int(inside.sum()), right, failed),
    )


def recommendation(name: str, studies: int, right: Measure, failed: Measure) -> str:
    """Return what to do with such an answer, from how often it was right and its outline failed."""
    if name == UNSURE:
        return "Read the study as if there were no second reader; a mark, if any, only shows where to look."
    if studies < FEWEST or right.value is None:
        return f"Too few labelled studies to advise (at least {FEWEST}): read the study as usual."
    if name == NONE:
        return _reassurance(right.value)
    return f"{_trust(right.value)} {_outline(failed)}"


def _reassurance(right: float) -> str:
    if right >= 0.98:
        return "Read the study as usual; nothing asks for more."
    return f"Do not be reassured: {_percent(1 - right)} of these had a tumour. Read the study as usual."


def _trust(right: float) -> str:
    if right >= 0.95:
        return "A tumour is to be expected."
    return f"First make sure that there is a tumour: {_percent(1 - right)} of these were false alarms."


def _outline(failed: Measure) -> str:
    steps: tuple[tuple[Callable[[float], bool], str], ...] = (
        (lambda share: share <= 0.05, "Check the outline slice by slice, then it may be used."),
        (lambda share: share <= 0.2, "Correct the outline's border before using its volume."),
        (lambda _: True, "Take the mark as a pointer only: outline by hand and do not use its volume."),
    )
    share = 1.0 if failed.value is None else failed.value
    return next(text for holds, text in steps if holds(share))


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
