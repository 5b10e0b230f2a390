"""What differs between two runs: every task's test, its effect with an interval, and p adjusted for all tests."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from scipy.stats import binomtest

from training.compare.cohort import Cohort, Flags, Numbers
from training.compare.paired import bootstrap, delong, holm, mcnemar, rank_biserial, wilcoxon
from training.evaluation.bootstrap import Indices, resamples
from training.evaluation.concordance import FollowUp, comparable, concordance, concordant

# What counts as a difference after Holm's adjustment.
LEVEL = 0.05


class Task(StrEnum):
    """What a model does."""

    SEGMENTATION = "segmentation"
    DETECTION = "detection"
    SURVIVAL = "survival"


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """One metric of two runs: `difference` first minus second, its 95 % interval, p of `test` and p after Holm.

    `effect` says in words how large it is beyond the difference.
    """

    task: Task
    metric: str
    first: str
    second: str
    studies: int
    values: tuple[float, float]
    difference: float
    low: float
    high: float
    test: str
    p: float
    effect: str
    p_holm: float = float("nan")

    @property
    def ahead(self) -> str | None:
        """Return the run that is shown to be better, None where neither is."""
        if not self.p_holm < LEVEL:
            return None
        return self.first if self.difference > 0 else self.second


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure of one run with its 95 % interval over `n` studies."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparer:
    """A cohort with its resamples, the same ones for every figure."""

    cohort: Cohort
    drawn: Sequence[Indices]

    @classmethod
    def of(cls, cohort: Cohort, count: int, seed: int) -> "Comparer":
        """Draw `count` resamples of the cohort's patients."""
        return cls(cohort=cohort, drawn=resamples(cohort.patients, count, seed))

    def contrasts(self, pairs: Sequence[tuple[str, str]], tasks: Sequence[Task] = tuple(Task)) -> list[Contrast]:
        """Return every test that the data allow, p not yet adjusted."""
        tests: dict[Task, tuple[Callable[[str, str], Contrast | None], ...]] = {
            Task.SEGMENTATION: (self._dice,),
            Task.DETECTION: (self._area, self._answers),
            Task.SURVIVAL: (self._c_index,),
        }
        found = [test(*pair) for task in tasks for test in tests[task] for pair in pairs]
        return [contrast for contrast in found if contrast is not None]

    def summary(self, name: str) -> dict[str, Estimate]:
        """Return a run's own figures; those that the data cannot give are left out."""
        cohort, run = self.cohort, self.cohort.runs[name]
        found: dict[str, Estimate] = {}
        outlined, labelled = cohort.outlined(name), cohort.labelled
        if outlined.any():
            low, high, _ = bootstrap(self._mean(run.dice, outlined), self.drawn)
            found["Dice"] = Estimate(value=float(run.dice[outlined].mean()), low=low, high=high, n=int(outlined.sum()))
        label = cohort.tumour[labelled] == 1
        if _two_of_each(label):
            areas = delong([run.probability[labelled]], label)
            low, high = areas.interval(0)
            found["ROC area"] = Estimate(value=float(areas.auc[0]), low=low, high=high, n=label.size)
        answers = run.positive[labelled]
        found |= _share("sensitivity", answers[label]) | _share("specificity", ~answers[~label])
        pairs = self._pairs()
        if pairs is not None:
            told = concordant(pairs, run.risk)
            low, high, _ = bootstrap(lambda i: concordance(pairs, told, i), self.drawn)
            everyone = np.arange(len(cohort.studies))
            n = int(cohort.followed.sum())
            found["C-index"] = Estimate(value=concordance(pairs, told, everyone), low=low, high=high, n=n)
        return found

    def _dice(self, first: str, second: str) -> Contrast | None:
        where = self.cohort.outlined(first, second)
        if not where.any():
            return None
        a, b = (self.cohort.runs[name].dice for name in (first, second))
        low, high, _ = bootstrap(self._mean(a - b, where), self.drawn)
        return Contrast(
            task=Task.SEGMENTATION, metric="Dice", first=first, second=second, studies=int(where.sum()),
            values=(float(a[where].mean()), float(b[where].mean())), difference=float((a - b)[where].mean()),
            low=low, high=high, test="Wilcoxon signed-rank", p=wilcoxon(a[where], b[where]),
            effect=f"rank-biserial correlation {rank_biserial(a[where], b[where]):+.2f}",
        )  # fmt: skip

    def _area(self, first: str, second: str) -> Contrast | None:
        where = self.cohort.labelled
        label = self.cohort.tumour[where] == 1
        if not _two_of_each(label):
            return None
        areas = delong([self.cohort.runs[name].probability[where] for name in (first, second)], label)
        low, high, p = areas.difference(0, 1)
        a, b = (float(area) for area in areas.auc)
        return Contrast(
            task=Task.DETECTION, metric="ROC area", first=first, second=second, studies=label.size, values=(a, b),
            difference=a - b, low=low, high=high, test="DeLong", p=p,
            effect=f"{int(label.sum())} with and {int((~label).sum())} without tumour",
        )  # fmt: skip

    def _answers(self, first: str, second: str) -> Contrast | None:
        where = self.cohort.labelled
        if not where.any():
            return None
        label = self.cohort.tumour == 1
        a, b = (self.cohort.runs[name].positive == label for name in (first, second))
        odd = mcnemar(a[where], b[where])
        difference = a.astype(float) - b.astype(float)
        low, high, _ = bootstrap(self._mean(difference, where), self.drawn)
        return Contrast(
            task=Task.DETECTION, metric="right answers", first=first, second=second, studies=int(where.sum()),
            values=(float(a[where].mean()), float(b[where].mean())), difference=float(difference[where].mean()),
            low=low, high=high, test="McNemar, exact", p=odd.p,
            effect=f"{odd.first_only} right in {first} alone, {odd.second_only} in {second} alone",
        )  # fmt: skip

    def _c_index(self, first: str, second: str) -> Contrast | None:
        pairs = self._pairs()
        if pairs is None:
            return None
        a, b = (concordant(pairs, self.cohort.runs[name].risk) for name in (first, second))
        everyone = np.arange(len(self.cohort.studies))
        low, high, p = bootstrap(lambda i: concordance(pairs, a, i) - concordance(pairs, b, i), self.drawn)
        ahead = concordance(pairs, a, everyone), concordance(pairs, b, everyone)
        deaths = int((self.cohort.died[self.cohort.followed] == 1).sum())
        return Contrast(
            task=Task.SURVIVAL, metric="C-index", first=first, second=second, studies=int(self.cohort.followed.sum()),
            values=ahead, difference=ahead[0] - ahead[1], low=low, high=high, test="paired bootstrap", p=p,
            effect=f"{deaths} deaths",
        )  # fmt: skip

    def _pairs(self) -> Numbers | None:
        """Return which pairs of all studies are comparable; those without follow-up are in none."""
        cohort, where = self.cohort, self.cohort.followed
        time = np.where(where, cohort.time, -1.0)
        pairs = comparable(FollowUp(time=time, died=where & (cohort.died == 1)))
        return pairs if pairs.any() else None

    @staticmethod
    def _mean(values: Numbers, where: Flags) -> Callable[[Indices], float]:
        def mean(indices: Indices) -> float:
            kept = indices[where[indices]]
            return float(values[kept].mean()) if kept.size else float("nan")

        return mean


def adjusted(contrasts: Sequence[Contrast]) -> list[Contrast]:
    """Return the contrasts with p adjusted for all of them by Holm's method."""
    together = holm([contrast.p for contrast in contrasts])
    return [replace(contrast, p_holm=p) for contrast, p in zip(contrasts, together, strict=True)]


def _two_of_each(label: Flags) -> bool:
    return min(int(label.sum()), int((~label).sum())) >= 2


def _share(name: str, right: Flags) -> dict[str, Estimate]:
    """Return a share with its interval (Wilson 1927); none of nothing."""
    if not right.size:
        return {}
    interval = binomtest(int(right.sum()), right.size).proportion_ci(method="wilson")
    return {name: Estimate(value=float(right.mean()), low=float(interval.low), high=float(interval.high), n=right.size)}
