"""Drift: whether a model's numbers are spread as in its reference, by the population stability index (PSI).

PSI is symmetrised relative entropy over bins: sum of (found - expected) ln(found / expected) over their shares. Its
usual limits are 0.1 and 0.25 (Siddiqi 2006). Where nothing drifts it is about (1/n + 1/m) times chi-squared with one
degree of freedom less than bins (Yurdakul and Naranjo 2020). Five bins and 200 answers on either side make 0.1 what
one look in twenty exceeds by chance, and 0.25 hardly any; with ten bins one in three would exceed 0.1.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Self

from pydantic import ConfigDict

from daemon.domain.finding import Findings

BINS = 5
# Answers that make a reference, the newest ones that are held against it, and the fewest of these.
REFERENCE, WINDOW, LEAST = 200, 200, 100
MODERATE, LARGE = 0.1, 0.25


class Quantity(StrEnum):
    """A number of each answer whose spread is watched."""

    PROBABILITY = "tumour-probability"
    RISK = "survival-risk"
    VOLUME = "volume-ml"
    ENTROPY = "entropy"
    NOVELTY = "novelty"


class Level(StrEnum):
    """How far a spread is from its reference; UNKNOWN while there are too few answers."""

    UNKNOWN = "too few answers"
    STEADY = "steady"
    MODERATE = "moderate drift"
    LARGE = "large drift"

    @classmethod
    def of(cls, psi: float | None) -> Self:
        """Return the level of an index."""
        if psi is None:
            return cls(cls.UNKNOWN)
        return cls(cls.LARGE if psi > LARGE else cls.MODERATE if psi > MODERATE else cls.STEADY)


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Values in bins: `counts` are of those up to each of the rising `edges`, that one too, and of those above all."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        """Check that they fit.

        Raises:
            ValueError: they do not.
        """
        rising = all(low < high for low, high in zip(self.edges, self.edges[1:], strict=False))
        if not rising or len(self.counts) != len(self.edges) + 1 or min(self.counts) < 0 or not sum(self.counts):
            raise ValueError("a spread has rising edges and one count more than edges, not all of them 0")

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Return the spread of values in bins that hold about as many each; equal values share one.

        Raises:
            ValueError: there is none.
        """
        ordered = sorted(values)
        cuts = {ordered[math.ceil(len(ordered) * n / BINS) - 1] for n in range(1, BINS)} if ordered else set()
        edges = tuple(sorted(cuts))
        return cls(edges=edges, counts=_counted(edges, ordered))

    def counted(self, values: Sequence[float]) -> tuple[int, ...]:
        """Return how many of other values lie in each bin."""
        return _counted(self.edges, values)


def psi(expected: Sequence[int], found: Sequence[int]) -> float:
    """Return the index between counts in the same bins; half a value is added to each, so that none is empty."""
    wanted, seen = _shares(expected), _shares(found)
    return math.fsum((b - a) * math.log(b / a) for a, b in zip(wanted, seen, strict=True))


def _shares(counts: Sequence[int]) -> list[float]:
    whole = sum(counts) + len(counts) / 2
    return [(count + 0.5) / whole for count in counts]


def _counted(edges: Sequence[float], values: Sequence[float]) -> tuple[int, ...]:
    counts = [0] * (len(edges) + 1)
    for value in values:
        counts[bisect_left(edges, value)] += 1
    return tuple(counts)


Scores = Mapping[Quantity, float]


def scores(findings: Findings) -> dict[Quantity, float]:
    """Return an answer's numbers; without risk or novelty where its bundle has no fitted survival or no bank."""
    found = {
        Quantity.PROBABILITY: findings.tumour_probability.mean,
        Quantity.RISK: findings.survival_risk.mean if findings.survival_risk else None,
        Quantity.VOLUME: sum(lesion.volume_ml for lesion in findings.lesions),
        Quantity.ENTROPY: findings.uncertainty.score,
        Quantity.NOVELTY: findings.novelty,
    }
    return {quantity: value for quantity, value in found.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How far one quantity's newest answers are from the reference; `psi` is None where either side has too few.

    `by_bundle` tells a reference of the calibration from the site's own first answers; `reference` and `window` count
    the answers on either side.
    """

    quantity: Quantity
    psi: float | None
    by_bundle: bool
    reference: int
    window: int

    @property
    def level(self) -> Level:
        """Return what the index means."""
        return Level.of(self.psi)


def drifts(given: Mapping[Quantity, Spread], first: Sequence[Scores], last: Sequence[Scores]) -> tuple[Drift, ...]:
    """Return the drift of each quantity.

    Args:
        given: the bundle's own reference spreads; may lack any.
        first: the site's first answers, at most `REFERENCE`.
        last: the newest answers, at most `WINDOW`; with `first` full, none of them is among those.
    """
    return tuple(_drift(quantity, given.get(quantity), first, last) for quantity in Quantity)


def _drift(quantity: Quantity, given: Spread | None, first: Sequence[Scores], last: Sequence[Scores]) -> Drift:
    own = [one[quantity] for one in first if quantity in one]
    window = [one[quantity] for one in last if quantity in one]
    reference = given or (Spread.of(own) if len(own) >= REFERENCE else None)
    known = reference is not None and len(window) >= LEAST
    return Drift(
        quantity=quantity,
        psi=psi(reference.counts, reference.counted(window)) if reference and known else None,
        by_bundle=given is not None,
        reference=sum(given.counts) if given else len(own),
        window=len(window) if reference else 0,
    )
