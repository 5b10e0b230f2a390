"""Harrell's and Uno's C as weighted pairs, so that thousands of resamples are quick."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torchsurv.stats.ipcw import get_ipcw

from training.evaluation.bootstrap import Indices, Numbers

DAYS_PER_YEAR = 365.25


@dataclass(frozen=True, kw_only=True, eq=False)
class FollowUp:
    """Days and whether the patient died then (patients,)."""

    time: Numbers
    died: NDArray[np.bool_]

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (died, time) as torchsurv takes them."""
        return torch.from_numpy(self.died), torch.from_numpy(self.time).float()


def comparable(follow_up: FollowUp) -> Numbers:
    """Return 1 where i died before j's end, (patients, patients); of equal times only died against censored counts."""
    time, died = follow_up.time, follow_up.died
    later = time[None] > time[:, None]
    outlived = (time[None] == time[:, None]) & ~died[None]
    return np.asarray((died[:, None] & (later | outlived)).astype(np.float64))


def uno_weights(follow_up: FollowUp) -> Numbers:
    """Return squared inverse probabilities of not being censored yet (patients,) (Uno 2011)."""
    died, time = follow_up.tensors()
    return np.asarray(get_ipcw(died, time).double().numpy() ** 2)


def concordant(pairs: Numbers, risk: Numbers) -> Numbers:
    """Return the weights of `pairs` whose order `risk` (patients,) tells, ties half; (patients, patients)."""
    first, second = risk[:, None], risk[None]
    return np.asarray(pairs * ((first > second) + 0.5 * (first == second)))


def concordance(pairs: Numbers, told: Numbers, indices: Indices) -> float:
    """Return C over the patients `indices`, repeats included; NaN without a comparable pair.

    Args:
        pairs: (patients, patients) weights of pairs of which the first died first.
        told: those of them that a risk tells, from `concordant`.
        indices: patients, as a resample gives them.
    """
    times = np.bincount(indices, minlength=len(pairs)).astype(np.float64)
    total = float(times @ pairs @ times)
    return float(times @ told @ times) / total if total else float("nan")
