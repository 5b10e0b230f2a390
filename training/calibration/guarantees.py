"""Thresholds and intervals that hold on studies not seen yet, if these are like those of the calibration.

Learn-then-Test (Angelopoulos et al. 2021), conformal risk control (Angelopoulos et al. 2024), split conformal
prediction (Lei et al. 2018). Each needs studies that chose nothing else, and exchangeable with what comes. Studies
of one patient are not: `per_patient` makes one number of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

Numbers = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A threshold, whether its goal is guaranteed, and what it reaches on the `cases` (patients) it was tested on."""

    value: float
    guaranteed: bool
    reached: float
    cases: int


def per_patient(values: Numbers, patients: Sequence[str]) -> Numbers:
    """Return the highest of each patient's `values` (n, ...), so that what bounds it holds for all their studies.

    Patients stand in the order of their first study: where each has one study, nothing changes.
    """
    places = {patient: place for place, patient in enumerate(dict.fromkeys(patients))}
    highest = np.full((len(places), *values.shape[1:]), -np.inf)
    np.maximum.at(highest, np.array([places[patient] for patient in patients], dtype=int), values)
    return highest


@dataclass(frozen=True, kw_only=True)
class LearnThenTest:
    """A rising `grid` of thresholds fixed before the studies were seen, the sensitivity `goal`, the chance of error."""

    grid: Numbers
    goal: float
    delta: float

    def passed(self, positives: Numbers) -> int:
        """Return how many of the lowest thresholds keep the goal, all at once with probability 1 - `delta`.

        Learn-then-Test by fixed-sequence testing from the lowest threshold up: the exact binomial p-value of
        "sensitivity is below the goal" must be at most `delta`; testing ends at the first that fails.
        """
        passed = binom.cdf(self.missed(positives), len(positives), 1 - self.goal) <= self.delta
        return len(self.grid) if passed.all() else int(np.argmin(passed))

    def missed(self, positives: Numbers) -> NDArray[np.int64]:
        """Return how many positives lie below each threshold."""
        return np.asarray((positives[:, None] < self.grid[None, :]).sum(axis=0))


def sensitivity_threshold(positives: Numbers, negatives: Numbers, test: LearnThenTest) -> Threshold:
    """Return the best threshold of those that pass the test; where none does, of those of the highest sensitivity.

    Best is the highest sensitivity + specificity (Youden 1950), in the middle where several are equal. That choice
    costs no guarantee, because all that passed hold at once.

    Args:
        positives: probabilities (n,) of patients with tumour, each its studies' lowest.
        negatives: probabilities (m,) of studies without.
        test: what to hold.

    Raises:
        ValueError: there is no study with tumour.
    """
    n = len(positives)
    if not n:
        raise ValueError("no study with tumour to test a threshold on; predict some")
    missed, count = test.missed(positives), test.passed(positives)
    allowed = np.arange(count) if count else np.flatnonzero(missed == missed.min())
    spared = (negatives[:, None] < test.grid[None, :]).mean(axis=0) if len(negatives) else np.zeros(len(test.grid))
    index = np.round(spared - missed / n, 12)[allowed]
    equal = allowed[index == index.max()]
    best = int(equal[len(equal) // 2])
    return Threshold(value=float(test.grid[best]), guaranteed=count > 0, reached=float(1 - missed[best] / n), cases=n)


def cases_needed(goal: float, delta: float) -> int:
    """Return how many patients with tumour, all found, the guarantee takes at least."""
    return int(np.ceil(np.log(delta) / np.log(goal)))


def risk_threshold(losses: Numbers, grid: Numbers, limit: float) -> Threshold:
    """Return the highest threshold whose expected loss on the next patient is at most `limit` (conformal risk control).

    Args:
        losses: (n, thresholds) of patients, in 0..1 and not falling along `grid`, such as the share of tumour missed.
        grid: rising thresholds.
        limit: the expected loss allowed.

    Raises:
        ValueError: a loss falls where the threshold rises, or there is no study.
    """
    n = len(losses)
    if not n:
        raise ValueError("no study with a mask of a tumour to control the outline on; predict some")
    if (np.diff(losses, axis=1) < -1e-12).any():
        raise ValueError("a loss falls with a rising threshold; conformal risk control wants it monotone")
    mean = losses.mean(axis=0)
    held = (n * mean + 1) / (n + 1) <= limit
    best = int(np.flatnonzero(held)[-1]) if held.any() else 0
    return Threshold(value=float(grid[best]), guaranteed=bool(held.any()), reached=float(mean[best]), cases=n)


def conformal_quantile(scores: Numbers, coverage: float) -> float:
    """Return the score that the next patient's stays at or below with probability `coverage`; infinite if too few."""
    rank = int(np.ceil((len(scores) + 1) * coverage))
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else float("inf")


def volume_scores(outlined_ml: Numbers, true_ml: Numbers) -> Numbers:
    """Return |ln((true + 1) / (outlined + 1))|, the error that `Calibration.volume_log_spread` bounds."""
    return np.asarray(np.abs(np.log1p(true_ml) - np.log1p(outlined_ml)))
