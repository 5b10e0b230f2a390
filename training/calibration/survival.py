"""Survival: where the risk score is centred, its thirds, and Breslow's baseline."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torchsurv.loss.cox import baseline_survival_function

DAYS_PER_YEAR = 365.25
YEARS = (1, 2, 5)


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """Mean log hazard, cuts into thirds around it, and survival at mean risk by years; `cases` that it was fitted on.

    `survival` holds no year beyond the longest follow-up. All is 0 or empty where nothing was fitted.
    """

    centre: float = 0.0
    cuts: tuple[float, float] = (0.0, 0.0)
    survival: dict[int, float] = field(default_factory=dict)
    cases: int = 0


def fit_baseline(risks: NDArray[np.float64], days: Sequence[float], died: Sequence[int]) -> Baseline:
    """Return the baseline of a cohort (Breslow 1974); one that is not fitted of fewer than two studies or no death.

    Args:
        risks: (n,) log hazards as the model gives them.
        days: follow-up.
        died: 1 where the death was seen, 0 where follow-up ended before.
    """
    if len(risks) < 2 or not any(died):
        return Baseline()
    centre = float(risks.mean())
    low, high = np.quantile(risks - centre, (1 / 3, 2 / 3))
    time, event = torch.tensor(days, dtype=torch.float32), torch.tensor(died).bool()
    order = torch.argsort(time)
    fitted = baseline_survival_function(torch.tensor(risks - centre)[order].float(), event[order], time[order])
    times, alive = fitted["time"].numpy(), fitted["baseline_survival"].numpy()
    years = {}
    for year in (one for one in YEARS if one * DAYS_PER_YEAR <= max(days)):
        before = np.flatnonzero(times <= year * DAYS_PER_YEAR)
        years[year] = float(np.clip(alive[before[-1]] if before.size else 1.0, 0.001, 0.999))
    return Baseline(centre=centre, cuts=(float(low), float(high)), survival=years, cases=len(risks))
