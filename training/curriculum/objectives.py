"""What each stage minimises: the losses of a step, by task.

Each is a module whose `forward` returns the losses, so that Fabric can wrap it for several processes. Dropout masks are
drawn inside, from torch's generator, which the loop seeds at every step.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from training import losses
from training.curriculum.crops import Batch
from training.curriculum.studies import Study
from training.network import MultitaskNet, as_slices
from training.settings import TaskWeights

Terms = dict[str, Tensor]


def weighted(terms: Terms, weights: TaskWeights) -> Tensor:
    """Return the weighted sum of the losses."""
    return torch.stack([getattr(weights, task) * loss for task, loss in terms.items()]).sum()


class Outline(nn.Module):
    """Crops -> losses of the outline and of the activation map's cells; Focal Tversky joins after `late` of the stage.

    The cells teach the encoder to tell tumours from what looks alike; a network that only outlines has no map.
    """

    def __init__(self, net: MultitaskNet, *, late: float) -> None:
        super().__init__()
        self.net = net
        self._late = late

    def forward(self, batch: Batch, progress: float) -> Terms:
        """Return `seg` and `cells`, as the tasks need them."""
        net, n, rate = self.net, len(batch.image), self.net.settings.dropout
        maps = net.encoder(batch.image)
        terms: Terms = {}
        if net.settings.do_seg:
            # Masks of the maps' own precision: 32 bit ones would turn the whole decoder's input to 32 bit and back.
            masks = [m.to(level.dtype) for m, level in zip(net.decoder_masks(n, rate), maps, strict=True)]
            logits = net.decoder(maps, masks).float()
            terms["seg"] = losses.dice_bce(logits, batch.mask)
            if progress >= self._late:
                terms["seg"] = terms["seg"] + losses.focal_tversky(logits, batch.mask)
        if net.settings.needs_map:
            detect, _ = net.head_masks(rate)
            cam = net.heads.tumour.detect(as_slices(maps[-1]) * detect).float()
            terms["cells"] = losses.cells(cam, batch.mask)
        return terms


class Live(NamedTuple):
    """A study in a joint step: `stack` holds the slices `indices` for the living encoder, the cached map the others."""

    number: int
    stack: Tensor
    indices: Tensor
    deepest: Tensor
    cells: Tensor | None


class Mixed(NamedTuple):
    """A joint step's crops, absent where segmentation has none, and whole studies."""

    crops: Batch | None
    studies: tuple[Live, ...]


class Cohorts(nn.Module):
    """Labels and follow-up of all training studies, and the last known risk of each.

    A step sees a few studies; the Cox risk set is the whole cohort all the same, since the others count with the risk
    they were last given (a memory bank, after Wu et al. 2018).
    """

    tumour: Tensor
    time: Tensor
    event: Tensor
    followed: Tensor
    risk: Tensor

    def __init__(self, studies: Sequence[Study]) -> None:
        super().__init__()
        nan = float("nan")
        self.register_buffer("tumour", torch.tensor([nan if s.tumour is None else float(s.tumour) for s in studies]))
        self.register_buffer("time", torch.tensor([s.time_days if s.followed else nan for s in studies]))
        self.register_buffer("event", torch.tensor([s.event if s.followed else 0 for s in studies]))
        self.register_buffer("followed", torch.tensor([s.followed for s in studies]))
        self.register_buffer("risk", torch.zeros(len(studies)))

    def cox(self, living: dict[int, Tensor]) -> Tensor | None:
        """Return the Cox loss over the cohort with the `living` risks in place, scaled to them; None without any.

        A study's share of the gradient is what it would be if all risks were alive.
        """
        here = {i: risk for i, risk in living.items() if bool(self.followed[i])}
        if not here:
            return None
        index = torch.tensor(list(here), device=self.risk.device)
        values = torch.stack(list(here.values()))
        risk = self.risk.index_copy(0, index, values)
        self.risk = risk.detach()
        known = self.followed
        share = float(known.sum()) / len(here)
        loss = losses.cox(risk[known], self.event[known], self.time[known])
        # The value stays that of the cohort; only the gradient is scaled.
        return loss * share - (loss * (share - 1)).detach()


class Joint(nn.Module):
    """Crops and studies -> all losses; what has no truth skips its loss."""

    def __init__(self, net: MultitaskNet, cohort: Cohorts) -> None:
        super().__init__()
        self.outline = Outline(net, late=0.0)
        self.cohort = cohort

    def forward(self, batch: Mixed, progress: float) -> Terms:
        """Return `seg` and `cells` of the crops, `tumour` and `survival` of the studies."""
        net = self.outline.net
        terms = self.outline(batch.crops, progress) if batch.crops is not None else {}
        tumours, cells, risks = [], [], {}
        for study in batch.studies:
            cam, tumour, risk = self._judge(study)
            label = self.cohort.tumour[study.number]
            if net.settings.do_cls and not bool(label.isnan()):
                tumours.append(functional.binary_cross_entropy_with_logits(tumour, label.reshape(1)))
            if net.settings.needs_map and study.cells is not None:
                cells.append(losses.cell_loss(cam, study.cells))
            if net.settings.do_surv:
                risks[study.number] = risk[0]
        survival = self.cohort.cox(risks)
        if tumours:
            terms["tumour"] = torch.stack(tumours).mean()
        if cells:
            terms["cells"] = torch.stack([*cells, *([terms["cells"]] if "cells" in terms else [])]).mean()
        if survival is not None:
            terms["survival"] = survival
        return terms

    def _judge(self, study: Live) -> tuple[Tensor, Tensor, Tensor]:
        net = self.outline.net
        living = as_slices(net.encoder(study.stack)[-1]).float()
        deepest = study.deepest.float().index_copy(0, study.indices, living)
        # The heads are small and their logits must not lose digits.
        with torch.autocast(deepest.device.type, enabled=False):
            return net.judge(deepest, net.head_masks(net.settings.dropout))
