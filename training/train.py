"""Trains one network through its stages; each stage leaves a checkpoint, so that a run can go on.

warm-up: encoder and decoder outline tumours; joint: the detector joins, rates 0.3 / 0.3 / 1 for encoder, decoder and
heads; heads: on the frozen encoder's cached maps, tumour probability and Cox risk over the whole cohort.
"""

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from rich.progress import track
from torch import Tensor
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from daemon.imaging.steps import neighbour_stack
from training import losses
from training.batches import Batch, Crops
from training.data.sample import Sample
from training.network import MultitaskNet, channel_mask, channels_last
from training.settings import Settings

Loss = Callable[[MultitaskNet, Batch, float], Tensor]


def train(settings: Settings, samples: Sequence[Sample]) -> MultitaskNet:
    """Return the trained network; stages whose checkpoint exists are read, not repeated."""
    torch.manual_seed(settings.seed)
    torch.set_num_threads(settings.threads)
    channels = len(settings.recipe.channels) * settings.recipe.neighbours
    net = MultitaskNet(channels, settings.network)
    channels_last(net)
    stages: list[tuple[str, Callable[[MultitaskNet], MultitaskNet]]] = [
        ("warmup", lambda n: _fit(settings, samples, _Plan.warmup(settings), n)),
        ("joint", lambda n: _fit(settings, samples, _Plan.joint(settings), n)),
        ("heads", lambda n: fit_heads(settings, samples, n)),
    ]
    for name, stage in stages:
        checkpoint = settings.build / f"{name}.pt"
        if checkpoint.exists():
            net.load_state_dict(torch.load(checkpoint, weights_only=True))
            continue
        net = stage(net)
        torch.save(net.state_dict(), checkpoint)
    return net.eval()


@dataclass(frozen=True, kw_only=True)
class _Plan:
    name: str
    steps: int
    loss: Loss
    rates: tuple[float, float, float]

    @classmethod
    def warmup(cls, settings: Settings) -> "_Plan":
        return cls(name="warmup", steps=settings.stages.warmup_steps, loss=_outline, rates=(1.0, 1.0, 1.0))

    @classmethod
    def joint(cls, settings: Settings) -> "_Plan":
        return cls(name="joint", steps=settings.stages.joint_steps, loss=_outline_and_cells, rates=(0.3, 0.3, 1.0))


def _outline(net: MultitaskNet, batch: Batch, progress: float) -> Tensor:
    logits = net(batch.image, net.decoder_masks(len(batch.image), net.settings.dropout)).float()
    loss = losses.dice_bce(logits, batch.mask)
    return loss if progress < 0.5 else loss + losses.focal_tversky(logits, batch.mask)


def _outline_and_cells(net: MultitaskNet, batch: Batch, _progress: float) -> Tensor:
    n, rate = len(batch.image), net.settings.dropout
    maps = net.encoder(batch.image)
    logits = net.decoder(maps, net.decoder_masks(n, rate)).float()
    cam = net.heads.detect(maps[-1] * channel_mask((n, maps[-1].shape[1], 1, 1), rate)).float()
    outline = losses.dice_bce(logits, batch.mask) + losses.focal_tversky(logits, batch.mask)
    return outline + 0.5 * losses.cells(cam, batch.mask)


def _fit(settings: Settings, samples: Sequence[Sample], plan: _Plan, net: MultitaskNet) -> MultitaskNet:
    stages = settings.stages
    rate = stages.learning_rate
    parts = (net.encoder, net.decoder, net.heads)
    groups = [{"params": list(p.parameters()), "lr": rate * r} for p, r in zip(parts, plan.rates, strict=True)]
    optimiser = torch.optim.AdamW(groups, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=[rate * r for r in plan.rates], total_steps=plan.steps, pct_start=0.1
    )
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(stages.ema), use_buffers=True)
    crops = Crops(samples, settings.recipe, crop=stages.crop, seed=settings.seed + len(plan.name))
    net.train()
    with _Log(settings.build / f"{plan.name}.csv") as log:
        batches = enumerate(crops.batches(plan.steps, stages.batch))
        for step, batch in track(batches, total=plan.steps, description=plan.name):
            ready = Batch(image=batch.image.to(memory_format=torch.channels_last), mask=batch.mask)
            with torch.autocast("cpu", torch.bfloat16):
                loss = plan.loss(net, ready, step / plan.steps)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), stages.clip)
            optimiser.step()
            schedule.step()
            average.update_parameters(net)
            log.write(step, loss.item())
    averaged = average.module
    if not isinstance(averaged, MultitaskNet):
        raise TypeError("the averaged model wraps another network")
    return averaged


@dataclass(frozen=True, kw_only=True, eq=False)
class Embedded:
    """One study's deepest map (slices, c, h, w) in half precision, with its truths."""

    deepest: Tensor
    tumour: int | None
    cells: Tensor | None
    time_days: float | None
    event: int | None


@torch.no_grad()
def embed(net: MultitaskNet, sample: Sample, settings: Settings) -> Embedded:
    """Run the encoder once over all slices of a study."""
    net.eval()
    maps = []
    for start in range(0, sample.image.shape[1], 16):
        indices = np.arange(start, min(start + 16, sample.image.shape[1]))
        stack = torch.from_numpy(neighbour_stack(sample.image, settings.recipe, indices).astype(np.float32))
        with torch.autocast("cpu", torch.bfloat16):
            maps.append(net.encoder(stack.to(memory_format=torch.channels_last))[-1].half())
    truth = None
    if sample.mask is not None:
        truth = functional.max_pool2d(torch.from_numpy(sample.mask.astype(np.float32))[:, None], 16)
    return Embedded(
        deepest=torch.cat(maps).contiguous(),
        tumour=sample.tumour,
        cells=truth,
        time_days=sample.time_days,
        event=sample.event,
    )


def fit_heads(settings: Settings, samples: Sequence[Sample], net: MultitaskNet) -> MultitaskNet:
    """Fit the heads on cached maps; the Cox risk set is the whole cohort with follow-up at every step."""
    studies = [embed(net, s, settings) for s in track(samples, description="embed")]
    heads = net.heads.train()
    optimiser = torch.optim.AdamW(heads.parameters(), lr=2e-3, weight_decay=1e-3)
    followed = [i for i, study in enumerate(studies) if study.time_days is not None]
    time = torch.tensor([studies[i].time_days or 0.0 for i in followed])
    event = torch.tensor([studies[i].event or 0 for i in followed])
    with _Log(settings.build / "heads.csv") as log:
        for epoch in track(range(settings.stages.head_epochs), description="heads"):
            optimiser.zero_grad()
            detection, risks = _head_losses(net, studies)
            survival = losses.cox(torch.stack([risks[i] for i in followed]), event, time) if followed else 0.0
            loss = detection + survival
            loss.backward()
            optimiser.step()
            log.write(epoch, loss.item())
    return net


def _head_losses(net: MultitaskNet, studies: Iterable[Embedded]) -> tuple[Tensor, list[Tensor]]:
    rate, settings = net.settings.dropout, net.settings
    total, risks = torch.zeros(()), []
    count = 0
    for study in studies:
        masks = (channel_mask((1, settings.widths[-1], 1, 1), rate), channel_mask((1, settings.survival_width), rate))
        cam, tumour, risk = net.heads(study.deepest.float(), *masks)
        if study.tumour is not None:
            label = torch.tensor([float(study.tumour)])
            total = total + functional.binary_cross_entropy_with_logits(tumour, label)
        if study.cells is not None:
            total = total + losses.cells(cam, study.cells)
        risks.append(risk[0])
        count += 1
    return total / count, risks


class _Log:
    """A CSV of loss by step."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file)
        self._writer.writerow(("step", "loss"))

    def write(self, step: int, loss: float) -> None:
        """Append a row."""
        self._writer.writerow((step, f"{loss:.5f}"))
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
