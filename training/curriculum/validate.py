"""Reads the tuning set: Dice, AUC and concordance that tell when to stop."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass

import numpy as np
import torch
from lifelines.utils import concordance_index
from lightning_fabric import Fabric
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

from training.curriculum.studies import Study, inputs
from training.data.sample import Sample
from training.network import MultitaskNet, as_slices
from training.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """Mean Dice of studies with a tumour, AUC of the tumour logit, Harrell's C of the risk; NaN where unknown."""

    dice: float
    auc: float
    c_index: float

    @property
    def score(self) -> float:
        """Return the mean of what is known; 0 where nothing is."""
        known = [v for v in asdict(self).values() if not np.isnan(v)]
        return float(np.mean(known)) if known else 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """What a network says of samples, one number each; NaN where a truth is missing or a task is off."""

    dice: NDArray[np.float64]
    logit: NDArray[np.float64]
    risk: NDArray[np.float64]


@torch.no_grad()
def read(fabric: Fabric, net: MultitaskNet, samples: Sequence[Sample], settings: Settings, slices: int = 0) -> Reading:
    """Return what `net` says without dropout, on `slices` evenly spaced slices a study or, at 0, on all.

    Processes share the studies between them.
    """
    training = net.training
    net.eval()
    table = torch.zeros(len(samples), 3, dtype=torch.float64)
    for i in range(fabric.global_rank, len(samples), fabric.world_size):
        count = samples[i].image.shape[1]
        chosen = None if not slices else np.unique(np.linspace(0, count - 1, min(slices, count)).round().astype(int))
        table[i] = torch.tensor(_numbers(fabric, net, samples[i], settings, chosen), dtype=torch.float64)
    net.train(training)
    columns = summed(fabric, fabric.to_device(table)).cpu().numpy().T
    return Reading(dice=columns[0], logit=columns[1], risk=columns[2])


def summed(fabric: Fabric, value: Tensor) -> Tensor:
    """Return a tensor's sum over the processes."""
    total = fabric.all_reduce(value, reduce_op="sum")
    if not isinstance(total, Tensor):
        raise TypeError("the sum of a tensor is a tensor")
    return total


def figures(reading: Reading, truths: Sequence[Sample] | Sequence[Study], settings: Settings) -> Tuning:
    """Return the figures of a reading, each only where its task is on and its truth is known."""
    tasks = settings.network
    labels = np.array([np.nan if t.tumour is None else t.tumour for t in truths])
    days = np.array([np.nan if t.time_days is None or t.event is None else t.time_days for t in truths])
    event = np.array([t.event or 0 for t in truths])
    known, followed = ~np.isnan(labels), ~np.isnan(days)
    auc, c_index = np.nan, np.nan
    if tasks.do_cls and len(np.unique(labels[known])) > 1:
        auc = float(roc_auc_score(labels[known], reading.logit[known]))
    if tasks.do_surv and event[followed].any() and followed.sum() > 1:
        # Without two studies whose order is known, lifelines divides by none.
        with suppress(ZeroDivisionError):
            c_index = float(concordance_index(days[followed], -reading.risk[followed], event[followed]))
    return Tuning(dice=_mean(reading.dice) if tasks.do_seg else np.nan, auc=auc, c_index=c_index)


def _numbers(
    fabric: Fabric, net: MultitaskNet, sample: Sample, settings: Settings, chosen: NDArray[np.int64] | None
) -> tuple[float, float, float]:
    deepest: list[Tensor] = []
    overlap, size = 0.0, 0.0
    for stack, mask in inputs(sample, settings, chosen):
        with fabric.autocast():
            maps = net.encoder(fabric.to_device(stack))
            if settings.network.do_seg and mask is not None:
                found = net.decoder(maps, net.decoder_masks(1, 0.0)) > 0
                here = fabric.to_device(mask) > 0
                overlap += float((found & here).sum())
                size += float(found.sum() + here.sum())
        deepest.append(as_slices(maps[-1]).float())
    _, logit, risk = net.judge(torch.cat(deepest), net.head_masks(0.0))
    seen = sample.mask is not None and bool(sample.tumour) and size > 0
    return (2 * overlap / size if seen else np.nan), float(logit), float(risk)


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else np.nan
