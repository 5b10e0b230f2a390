"""Intervals by resampling patients, since studies of one patient are not independent."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from training.evaluation.values import Measure, Spread

Indices = NDArray[np.int64]
Numbers = NDArray[np.float64]
Statistic = Callable[[Indices], float]
# Fewer patients than this give no interval worth the name.
FEWEST_PATIENTS = 5
# An interval of a statistic that most resamples leave undefined would describe the few that do not.
MOST_UNDEFINED = 0.5


def resamples(patients: Sequence[str], count: int, seed: int) -> list[Indices]:
    """Return studies drawn with replacement, whole patients at a time (Davison and Hinkley 1997, 3.8), from Philox."""
    if not patients:
        return []
    rng = np.random.Generator(np.random.Philox(seed))
    owner = _owner(patients)
    studies = [np.flatnonzero(owner == patient) for patient in range(int(owner.max()) + 1)]
    draws = (rng.integers(0, len(studies), len(studies)) for _ in range(count))
    return [np.concatenate([studies[p] for p in draw]) for draw in draws]


def _owner(patients: Sequence[str]) -> Indices:
    """Return each study's patient as a number."""
    return np.unique(np.array(patients), return_inverse=True)[1]


class Bootstrap:
    """Percentile intervals of 95 % (Efron and Tibshirani 1993) over resamples of whole patients."""

    def __init__(self, patients: Sequence[str], count: int, seed: int) -> None:
        self._owner = _owner(patients)
        self.drawn = resamples(patients, count, seed)

    def measure(self, statistic: Statistic, where: NDArray[np.bool_], missing: str) -> Measure:
        """Return `statistic` over the studies `where` with its interval.

        Args:
            statistic: takes study indices, repeats included; NaN where it is undefined.
            where: (studies,) those it may run over.
            missing: completes "cannot be computed because" where it is undefined.

        Too few patients, mostly undefined resamples, or resamples that are all the same (an area of exactly 1) give
        the number without an interval.
        """
        here = np.flatnonzero(where)
        value = statistic(here) if here.size else float("nan")
        if not np.isfinite(value):
            return Measure(value=None, n=here.size, missing=missing)
        if len(np.unique(self._owner[here])) < FEWEST_PATIENTS:
            return Measure(value=value, n=here.size)
        kept = [drawn[where[drawn]] for drawn in self.drawn]
        drawn_values = np.array([statistic(indices) if indices.size else np.nan for indices in kept])
        defined = drawn_values[np.isfinite(drawn_values)]
        if defined.size <= MOST_UNDEFINED * max(drawn_values.size, 1) or np.ptp(defined) == 0:
            return Measure(value=value, n=here.size)
        low, high = np.quantile(defined, (0.025, 0.975))
        return Measure(value=value, low=float(low), high=float(high), n=here.size)

    def spread(self, values: Numbers, missing: str) -> Spread:
        """Return mean and median of the finite ones of `values` (studies,)."""
        known = np.isfinite(values)
        return Spread(
            mean=self.measure(lambda i: float(np.mean(values[i])), known, missing),
            median=self.measure(lambda i: float(np.median(values[i])), known, missing),
        )

    def share(self, holds: NDArray[np.bool_], where: NDArray[np.bool_], missing: str) -> Measure:
        """Return the share of the studies `where` of which `holds` is true.

        A share of 0 or 1 has no spread to resample; its interval is Clopper and Pearson's (1934) over patients.
        """
        found = self.measure(lambda i: float(np.mean(holds[i])), where, missing)
        patients = len(np.unique(self._owner[where]))
        if found.value not in {0.0, 1.0} or patients < FEWEST_PATIENTS:
            return found
        exact = binomtest(int(found.value) * patients, patients).proportion_ci(method="exact")
        return found.model_copy(update={"low": float(exact.low), "high": float(exact.high)})


def numbers(values: Sequence[float | None]) -> Numbers:
    """Return `values` as an array, NaN where there is none."""
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
