"""Heads on a frozen encoder: every step is the whole cohort, so the Cox risk set is complete.

The gradient is exact and needs the memory of one study: risks are read first, the Cox loss tells what each risk's
gradient is, and each study is then run again with its own (gradient caching, Gao et al. 2021).
"""

from collections.abc import Sequence

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional

from training import losses
from training.curriculum.loop import Numbers, seed_of
from training.curriculum.studies import Study
from training.curriculum.validate import Reading, Tuning, figures, summed
from training.network import MultitaskNet
from training.settings import Settings


class WholeCohort:
    """Runs all studies through the heads, backward as well; processes share the studies between them."""

    def __init__(self, fabric: Fabric, net: MultitaskNet, studies: Sequence[Study], settings: Settings) -> None:
        self._fabric, self._net, self._studies, self._settings = fabric, net, studies, settings
        self._mine = range(fabric.global_rank, len(studies), fabric.world_size)
        self._followed = torch.tensor([s.followed for s in studies])
        self._time = torch.tensor([s.time_days or 0.0 for s in studies])
        self._event = torch.tensor([s.event or 0 for s in studies])

    def advance(self, epoch: int, _progress: float) -> Numbers:
        """Leave the gradient of the cohort's losses in the heads' parameters; return the losses."""
        network, weights = self._settings.network, self._settings.stages.weights
        with torch.no_grad():
            risk = self._risks(epoch)
        risk.requires_grad_()
        survival = self._cox(risk) if network.do_surv else risk.sum() * 0
        (slopes,) = torch.autograd.grad(survival * weights.survival, risk)
        totals = {name: torch.zeros(()) for name in ("cells", *(["tumour"] if network.do_cls else []))}
        for i in self._mine:
            cam, tumour, hazard = self._judge(i, epoch)
            terms = self._terms(i, cam, tumour)
            loss = hazard[0] * slopes[i]
            for name, term in terms.items():
                loss = loss + getattr(weights, name) * term / len(self._studies)
                totals[name] += term.detach().cpu() / len(self._studies)
            loss.backward()
        for parameter in self._net.heads.parameters():
            if parameter.requires_grad and parameter.grad is not None:
                parameter.grad = self._sum(parameter.grad)
        return {name: self._sum(value) for name, value in totals.items()} | (
            {"survival": survival.detach()} if network.do_surv else {}
        )

    @torch.no_grad()
    def tuning(self, net: MultitaskNet) -> tuple[float, Tuning]:
        """Return the negative loss of studies without dropout as the score, and the figures of the heads."""
        weights, network = self._settings.stages.weights, self._settings.network
        logits, risks, total = [], [], 0.0
        for i, study in enumerate(self._studies):
            cam, tumour, risk = net.judge(self._deepest(study), net.head_masks(0.0))
            named = self._terms(i, cam, tumour)
            total += sum(getattr(weights, name) * float(term) for name, term in named.items()) / len(self._studies)
            logits.append(float(tumour))
            risks.append(float(risk))
        if network.do_surv:
            total += weights.survival * float(self._cox(torch.tensor(risks)))
        reading = Reading(dice=np.full(len(logits), np.nan), logit=np.array(logits), risk=np.array(risks))
        return -total, figures(reading, self._studies, self._settings)

    def _risks(self, epoch: int) -> Tensor:
        risks = torch.zeros(len(self._studies))
        for i in self._mine:
            risks[i] = self._judge(i, epoch)[2][0].cpu()
        return self._sum(risks)

    def _judge(self, index: int, epoch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Run one study with the masks that belong to this epoch and study, so that both runs have the same."""
        masks = torch.Generator().manual_seed(seed_of(self._settings.seed, epoch, index))
        deepest = self._deepest(self._studies[index])
        return self._net.judge(deepest, self._net.head_masks(self._settings.network.dropout, masks))

    def _deepest(self, study: Study) -> Tensor:
        return self._fabric.to_device(torch.from_numpy(study.deepest.astype(np.float32)))

    def _terms(self, index: int, cam: Tensor, tumour: Tensor) -> Numbers:
        study, terms = self._studies[index], {}
        if study.tumour is not None and self._settings.network.do_cls:
            terms["tumour"] = functional.binary_cross_entropy_with_logits(tumour, torch.full_like(tumour, study.tumour))
        if study.cells is not None:
            terms["cells"] = losses.cell_loss(cam, study.cells.to(cam.device))
        return terms

    def _cox(self, risk: Tensor) -> Tensor:
        known = self._followed
        return losses.cox(risk[known], self._event[known], self._time[known])

    def _sum(self, value: Tensor) -> Tensor:
        return summed(self._fabric, value)
