"""Paired tests and intervals of two runs on the same studies."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Numbers = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.int64]


def wilcoxon(first: Numbers, second: Numbers) -> float:
    """Return the two-sided p of the signed-rank test (Wilcoxon 1945); zeros keep their ranks (Pratt 1959)."""
    if np.array_equal(first, second):
        return 1.0
    return float(stats.wilcoxon(first, second, zero_method="pratt").pvalue)


def rank_biserial(first: Numbers, second: Numbers) -> float:
    """Return the matched-pairs rank-biserial correlation (Kerby 2014): -1..1, 0 where neither run is ahead."""
    difference = first - second
    difference = difference[difference != 0]
    if not difference.size:
        return 0.0
    ranks = stats.rankdata(np.abs(difference))
    return float((ranks * np.sign(difference)).sum() / ranks.sum())


@dataclass(frozen=True, kw_only=True)
class Discordant:
    """Studies that one run alone answers right, and McNemar's exact two-sided p (McNemar 1947)."""

    first_only: int
    second_only: int
    p: float


def mcnemar(first: Flags, second: Flags) -> Discordant:
    """Compare which answers are right, by the exact binomial test of the discordant pairs."""
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    odd = only_first + only_second
    p = float(stats.binomtest(only_first, odd).pvalue) if odd else 1.0
    return Discordant(first_only=only_first, second_only=only_second, p=p)


@dataclass(frozen=True, kw_only=True, eq=False)
class Areas:
    """ROC areas of several runs (runs,) with their covariance (runs, runs)."""

    auc: Numbers
    covariance: Numbers

    def interval(self, run: int) -> tuple[float, float]:
        """Return a run's 95 % interval, cut to 0..1."""
        reach = _Z95 * float(np.sqrt(self.covariance[run, run]))
        return max(float(self.auc[run]) - reach, 0.0), min(float(self.auc[run]) + reach, 1.0)

    def difference(self, first: int, second: int) -> tuple[float, float, float]:
        """Return 95 % interval and two-sided p of first - second; p is NaN where the areas differ without variance."""
        value = float(self.auc[first] - self.auc[second])
        cov = self.covariance
        variance = max(float(cov[first, first] + cov[second, second] - 2 * cov[first, second]), 0.0)
        # Below this the variance is rounding: the two runs rank all studies alike, or both rank them perfectly.
        if variance < 1e-15:
            return value, value, 1.0 if value == 0 else float("nan")
        error = float(np.sqrt(variance))
        return value - _Z95 * error, value + _Z95 * error, float(2 * stats.norm.sf(abs(value) / error))


_Z95 = float(stats.norm.ppf(0.975))


def delong(scores: Sequence[Numbers], label: Flags) -> Areas:
    """Return the areas of runs' `scores` (studies,) and their covariance (DeLong 1988; midranks of Sun and Xu 2014).

    Raises:
        ValueError: fewer than two studies are positive, or fewer than two negative.
    """
    positive, negative = int(label.sum()), int((~label).sum())
    if min(positive, negative) < 2:
        raise ValueError(f"{positive} studies with and {negative} without tumour; a ROC area needs two of each")
    placed = [_placements(score, label) for score in scores]
    of_positives, of_negatives = (np.stack([p[i] for p in placed]) for i in (0, 1))
    covariance = np.atleast_2d(np.cov(of_positives)) / positive + np.atleast_2d(np.cov(of_negatives)) / negative
    return Areas(auc=of_positives.mean(axis=1), covariance=covariance)


def _placements(score: Numbers, label: Flags) -> tuple[Numbers, Numbers]:
    """Return, for each positive, the share of negatives below it, and for each negative of positives above it."""
    ranks = stats.rankdata(score)
    high, low = score[label], score[~label]
    of_high = (ranks[label] - stats.rankdata(high)) / low.size
    of_low = 1 - (ranks[~label] - stats.rankdata(low)) / high.size
    return of_high, of_low


def bootstrap(statistic: Callable[[Indices], float], drawn: Sequence[Indices]) -> tuple[float, float, float]:
    """Return a statistic's 95 % percentile interval and the two-sided p that it is 0 (Efron and Tibshirani 1993).

    Resamples in which it is undefined (NaN) are left out; all undefined gives NaN.
    """
    values = np.array([statistic(indices) for indices in drawn])
    values = values[np.isfinite(values)]
    if not values.size:
        return float("nan"), float("nan"), float("nan")
    low, high = np.quantile(values, (0.025, 0.975))
    beyond = min(int((values <= 0).sum()), int((values >= 0).sum()))
    return float(low), float(high), min(2 * (beyond + 1) / (values.size + 1), 1.0)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p adjusted for their number (Holm 1979), in the given order; NaN stays NaN and is not counted."""
    p = np.array(p_values, dtype=np.float64)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    adjusted = np.full(p.size, np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * (known.size - np.arange(known.size))), 1)
    return [float(value) for value in adjusted]
