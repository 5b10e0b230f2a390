"""Percentiles of what was measured."""

from collections.abc import Sequence


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value of the nearest rank, of values in ascending order."""
    return ordered[round(share * (len(ordered) - 1))]
