"""Fine-tunes a shrunk network on its unpruned teacher's answers and the truth (Hinton et al. 2015).

A run that was stopped goes on from its last chunk of steps and ends at the same weights as one that was not: crops and
dropout masks are drawn from the seed and the step or chunk.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor
from torch.nn import functional

from daemon.domain.model_bundle import Recipe
from daemon.imaging.steps import neighbour_stack
from training import losses
from training.curriculum.crops import Batch, Crops
from training.data.sample import Sample
from training.network import MultitaskNet, channel_mask, channels_last
from training.settings import Settings

STUDIES_PER_STEP = 4
SLICES = 16
# Tumour logit and risk are unbounded; their distance counts this much beside the voxel losses.
NUMBERS_WEIGHT = 0.1
# Sets the crops of distillation apart from those of the training's stages.
_STAGE = 9


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """How long and how fast a shrunk network learns from its teacher; after `save_every` steps its state is kept."""

    steps: int
    head_epochs: int
    learning_rate: float
    bf16: bool = True
    save_every: int = 50


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """Voxel logits (n, 1, H, W), activation map (n, 1, h, w), tumour logit (1,) and log hazard (1,)."""

    logits: Tensor
    cam: Tensor
    tumour: Tensor
    risk: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """The unpruned network and the one that learns from it."""

    teacher: MultitaskNet
    student: MultitaskNet


def distil(pair: Pair, samples: Sequence[Sample], settings: Settings, tuning: Tuning, state: Path) -> MultitaskNet:
    """Return the student after its fine-tuning: all of it on crops, then its heads on whole studies.

    Args:
        pair: teacher and student; the student is changed in place.
        samples: prepared by the settings' recipe; those without a mask are left out of the crops.
        settings: the teacher's training: recipe, seed, crops, clipping.
        tuning: how long and how fast.
        state: where the run keeps what it needs to go on.

    Raises:
        ValueError: `state` is of a run with other settings.
    """
    pair.teacher.eval()
    channels_last(pair.teacher)
    channels_last(pair.student)
    _fit_crops(pair, samples, settings, tuning, state)
    if tuning.head_epochs:
        _fit_heads(pair, samples, settings, tuning)
    return pair.student.eval()


def _fit_crops(pair: Pair, samples: Sequence[Sample], settings: Settings, tuning: Tuning, state: Path) -> None:
    run = _Run(pair.student, settings.stages.clip, tuning, state)
    crops = Crops(samples, settings, (settings.seed, _STAGE))
    done = run.resume()
    pair.student.train()
    with Progress() as progress:
        task = progress.add_task("distil", total=tuning.steps, completed=done)
        while done < tuning.steps:
            chunk = min(tuning.save_every, tuning.steps - done)
            generator = torch.Generator().manual_seed(settings.seed + done)
            for step in range(done, done + chunk):
                run.step(_loss(pair, crops[step], generator, bf16=tuning.bf16))
                progress.advance(task)
            done += chunk
            run.keep(done)


class _Run:
    """The student with its optimiser, which go to a file and come back together."""

    def __init__(self, student: MultitaskNet, clip: float, tuning: Tuning, path: Path) -> None:
        self._student, self._clip, self._tuning, self._path = student, clip, tuning, path
        rate = tuning.learning_rate
        self._optimiser = torch.optim.AdamW(student.parameters(), lr=rate, weight_decay=1e-4)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimiser, max_lr=rate, total_steps=max(tuning.steps, 1), pct_start=0.1
        )

    def step(self, loss: Tensor) -> None:
        """Learn from one batch's loss."""
        self._optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._student.parameters(), self._clip)
        self._optimiser.step()
        self._schedule.step()

    def resume(self) -> int:
        """Take up what is kept; return the steps done so far."""
        if not self._path.exists():
            return 0
        kept = torch.load(self._path, weights_only=True)
        if kept["tuning"] != asdict(self._tuning):
            raise ValueError(
                f"{self._path} is of a run with other settings; give another output folder or remove that file"
            )
        self._student.load_state_dict(kept["student"])
        self._optimiser.load_state_dict(kept["optimiser"])
        self._schedule.load_state_dict(kept["schedule"])
        return int(kept["done"])

    def keep(self, done: int) -> None:
        """Write all that `resume` needs, whole or not at all."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".part")
        states = {
            "student": self._student.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
        }
        torch.save({**states, "done": done, "tuning": asdict(self._tuning)}, partial)
        partial.rename(self._path)


def _loss(pair: Pair, batch: Batch, generator: torch.Generator, *, bf16: bool) -> Tensor:
    """Return the distance from truth and teacher; to the heads, a batch's crops are the slices of one study."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        image = batch.image.to(memory_format=torch.channels_last) if batch.image.dim() == 4 else batch.image
        with torch.no_grad():
            teacher = answer(pair.teacher, image, 0.0, generator)
        student = answer(pair.student, image, pair.student.settings.dropout, generator)
    truth = losses.dice_bce(student.logits, batch.mask)
    return truth + _soft(student.logits, teacher.logits) + _heads_loss(student, teacher)


def _heads_loss(student: Answers, teacher: Answers) -> Tensor:
    numbers = functional.smooth_l1_loss(student.tumour, teacher.tumour) + functional.smooth_l1_loss(
        student.risk, teacher.risk
    )
    return _soft(student.cam, teacher.cam) + NUMBERS_WEIGHT * numbers


def _soft(logits: Tensor, target: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, torch.sigmoid(target))


def answer(net: MultitaskNet, image: Tensor, rate: float, generator: torch.Generator) -> Answers:
    """Return all that `net` says of slices (n, channels, H, W) under dropout masks of `rate`."""
    maps = net.encoder(image)
    logits = net.decoder(maps, net.decoder_masks(len(image), rate, generator)).float()
    cam, tumour, risk = net.judge(maps[-1].float(), _head_masks(net, rate, generator))
    return Answers(logits=logits, cam=cam.float(), tumour=tumour.float(), risk=risk.float())


def _head_masks(net: MultitaskNet, rate: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    detect = channel_mask((1, net.settings.widths[-1], 1, 1), rate, generator)
    return detect, channel_mask((1, net.settings.survival_width), rate, generator)


def _fit_heads(pair: Pair, samples: Sequence[Sample], settings: Settings, tuning: Tuning) -> None:
    """Fit the student's heads to the teacher's on whole studies, the student's encoder frozen."""
    generator = torch.Generator().manual_seed(settings.seed)
    teacher, student = pair.teacher.eval(), pair.student.eval()
    studies = []
    with torch.no_grad():
        for sample in samples:
            told = teacher.judge(_deepest(teacher, sample, settings.recipe), _head_masks(teacher, 0.0, generator))
            studies.append((_deepest(student, sample, settings.recipe).half(), told))
    optimiser = torch.optim.AdamW(student.heads.parameters(), lr=2e-3, weight_decay=1e-4)
    with Progress() as progress:
        for _ in progress.track(range(tuning.head_epochs), description="heads"):
            order = torch.randperm(len(studies), generator=generator).tolist()
            for start in range(0, len(order), STUDIES_PER_STEP):
                optimiser.zero_grad()
                for index in order[start : start + STUDIES_PER_STEP]:
                    deepest, told = studies[index]
                    masks = _head_masks(student, student.settings.dropout, generator)
                    said = student.judge(deepest.float(), masks)
                    _study_loss(said, told).backward()
                optimiser.step()


def _study_loss(said: tuple[Tensor, Tensor, Tensor], told: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    numbers = functional.smooth_l1_loss(said[1], told[1]) + functional.smooth_l1_loss(said[2], told[2])
    return _soft(said[0], told[0]) + numbers


def _deepest(net: MultitaskNet, sample: Sample, recipe: Recipe) -> Tensor:
    """Return f4 (slices, c, h, w) of a whole study; the plane is cut to whole cells."""
    rows, columns = (n // recipe.multiple * recipe.multiple for n in sample.image.shape[2:])
    image = sample.image[:, :, :rows, :columns].astype(np.float32)
    count = image.shape[1]
    parts = [np.arange(start, min(start + SLICES, count)) for start in range(0, count, SLICES)]
    return torch.cat([net.encoder(torch.from_numpy(neighbour_stack(image, recipe, p)))[-1] for p in parts])
