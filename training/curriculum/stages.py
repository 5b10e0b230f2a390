"""The curriculum, top to bottom.

warm-up: encoder and decoder learn to outline; adapt: the same, with the samples that join late; heads: on the frozen
encoder, tumour probability and Cox risk over the whole cohort; joint: all parts together, each at its own rate; settle:
the heads once more on the final encoder.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import nn
from torch.utils.data import DataLoader, Dataset

from training.curriculum.crops import Crops, Picker
from training.curriculum.heads import WholeCohort
from training.curriculum.learnt import Learnt
from training.curriculum.log import Log
from training.curriculum.loop import Numbers, Plan, Run, fit, nothing, rates
from training.curriculum.mixed import MixedSteps
from training.curriculum.objectives import Cohorts, Joint, Outline, weighted
from training.curriculum.store import Cohort
from training.curriculum.studies import embed
from training.curriculum.validate import Tuning, figures, read
from training.data.sample import Sample
from training.network import PARTS, MultitaskNet, Part, channels_last
from training.settings import Settings, load

WARMUP, ADAPT, HEADS, JOINT, SETTLE = "warmup", "adapt", "heads", "joint", "settle"
EMBEDDINGS = "embeddings"
ADAPT_RATE = 0.5
HEAD_DECAY = 1e-3
HEAD_READINGS = 12


def train(
    settings: Settings,
    cohort: Cohort,
    out: Path,
    fabric: Fabric | None = None,
    watch: Callable[[str, int, float], None] = nothing,
) -> MultitaskNet:
    """Return the trained network.

    Args:
        settings: sizes, stages and seed.
        cohort: what to learn from and what tells when to stop.
        out: gets `settings.toml`, `patients.json`, `log.csv`, `tensorboard/` and `stages/<stage>.pt`; a stage that is
            there is read, one that was stopped goes on from its last checkpoint.
        fabric: where to run; this machine's GPU or else its CPU where None.
        watch: is told stage, step and score at each validation; what it raises stops the run.

    Raises:
        ValueError: `out` holds another run, or one on other samples, or `stages.start` has seen who is to be measured.
        FileNotFoundError: `stages.start` names a run without a warm-up, or one that does not say whom it learnt from.
        FloatingPointError: a gradient is not finite.
    """
    fabric = fabric or make_fabric(settings)
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    net = MultitaskNet(settings.inputs, settings.network)
    if settings.stages.start:
        net.load_state_dict(_earlier(Path(settings.stages.start)))
    channels_last(net)
    fabric.to_device(net)
    log = None
    if fabric.is_global_zero:
        _claim(settings, out)
        Learnt.of(cohort, settings.stages.start).claim(out)
        log = Log(out)
    run = Run(settings=settings, fabric=fabric, out=out, log=log, watch=watch)
    try:
        for stage in _remaining(run, net):
            stage(run, net, cohort)
    finally:
        if log is not None:
            log.close()
    if fabric.is_global_zero:
        shutil.rmtree(out / EMBEDDINGS, ignore_errors=True)
    fabric.barrier()
    return net.eval()


def make_fabric(settings: Settings, processes: int = 1) -> Fabric:
    """Return where to run: `processes` GPUs or CPU processes; under torchrun as many processes as it starts."""
    cuda = torch.cuda.is_available()
    # torch 2.13's bf16 convolution of small volumes on CPU took minutes a step and gave NaN.
    precise = settings.network.spatial_dims == 3 and not cuda
    several = processes > 1 or "TORCHELASTIC_RUN_ID" in os.environ
    return Fabric(
        accelerator="cuda" if cuda else "cpu",
        devices=int(os.environ.get("LOCAL_WORLD_SIZE", processes)),
        num_nodes=int(os.environ.get("GROUP_WORLD_SIZE", "1")),
        precision="32-true" if precise else settings.stages.precision,
        strategy=DDPStrategy(find_unused_parameters=True) if several else "auto",
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Course:
    """A stage that learns from batches: what it minimises, over which data, how fast each part learns."""

    name: str
    objective: nn.Module
    data: Dataset[Any]
    steps: int
    shares: dict[Part, float]
    score: Callable[[Tuning], float]
    every: int


def warm_up(run: Run, net: MultitaskNet, cohort: Cohort) -> None:
    """Let encoder and decoder learn to outline tumours, and the encoder's map to show where they are."""
    _outline(run, net, cohort, WARMUP, cohort.train)


def adapt(run: Run, net: MultitaskNet, cohort: Cohort) -> None:
    """Go on outlining with the samples that join late; without any, or without steps for it, do nothing.

    The last weights are kept: the tuning set need not be like those who joined.
    """
    if cohort.adapt:
        _outline(run, net, cohort, ADAPT, cohort.drawn)


def _outline(run: Run, net: MultitaskNet, cohort: Cohort, name: str, samples: Sequence[Sample]) -> None:
    settings, stages, first = run.settings, run.settings.stages, name == WARMUP
    share = 1.0 if first else ADAPT_RATE
    net.thaw(("encoder", "decoder", "tumour"))
    net.train()
    course = Course(
        name=name,
        objective=Outline(net, late=0.5 if first else 0.0),
        data=Crops(samples, settings, (settings.seed, NUMBERS[name], run.fabric.global_rank)),
        steps=stages.warmup_steps if first else stages.adapt_steps,
        shares={"encoder": share, "decoder": share, "tumour": share},
        score=lambda t: t.score if np.isnan(t.dice) else t.dice,
        every=stages.validate_every if first else 0,
    )
    _fit(run, net, cohort, course)


def heads(run: Run, net: MultitaskNet, cohort: Cohort) -> None:
    """Let the heads learn on the frozen encoder."""
    _fit_heads(run, net, cohort, HEADS)


def joint(run: Run, net: MultitaskNet, cohort: Cohort) -> None:
    """Fine-tune all parts together; BatchNorm keeps its statistics, since crops and studies differ in theirs."""
    settings, shares = run.settings, run.settings.stages.rates
    if not settings.stages.joint_steps:
        return
    net.thaw(PARTS)
    net.eval()
    samples = cohort.drawn
    studies = embed(run.fabric, net, samples, settings, run.out / EMBEDDINGS)
    course = Course(
        name=JOINT,
        objective=Joint(net, Cohorts(studies)),
        data=MixedSteps(samples, studies, settings, (settings.seed, NUMBERS[JOINT], run.fabric.global_rank)),
        steps=settings.stages.joint_steps,
        shares={
            "encoder": shares.encoder, "decoder": shares.decoder, "tumour": shares.heads, "survival": shares.heads,
        },
        score=lambda t: t.score,
        every=settings.stages.validate_every,
    )  # fmt: skip
    _fit(run, net, cohort, course)


def settle(run: Run, net: MultitaskNet, cohort: Cohort) -> None:
    """Let the heads learn once more, on the encoder that joint fine-tuning has left."""
    _fit_heads(run, net, cohort, SETTLE)


STAGES: dict[str, Callable[[Run, MultitaskNet, Cohort], None]] = {
    WARMUP: warm_up, ADAPT: adapt, HEADS: heads, JOINT: joint, SETTLE: settle,
}  # fmt: skip
# Part of each step's seed, so a stage keeps its number.
NUMBERS = {WARMUP: 0, HEADS: 1, JOINT: 2, SETTLE: 3, ADAPT: 4}


def _earlier(run: Path) -> dict[str, Any]:
    """Return the weights that the warm-up of an earlier run left."""
    path = run / "stages" / f"{WARMUP}.pt"
    if not path.is_file():
        raise FileNotFoundError(f"no {path}, which stages.start names; train that run first, or leave stages.start out")
    weights: dict[str, Any] = torch.load(path, weights_only=True)
    return weights


def _remaining(run: Run, net: MultitaskNet) -> list[Callable[[Run, MultitaskNet, Cohort], None]]:
    """Read the last finished stage's weights and return the stages after it."""
    names = list(STAGES)
    finished = [i for i, name in enumerate(names) if run.checkpoint(name).exists()]
    if not finished:
        return list(STAGES.values())
    net.load_state_dict(torch.load(run.checkpoint(names[finished[-1]]), weights_only=True))
    return [STAGES[name] for name in names[finished[-1] + 1 :]]


def _fit(run: Run, net: MultitaskNet, cohort: Cohort, course: Course) -> None:
    settings, fabric = run.settings, run.fabric
    if not course.steps:
        return
    module = fabric.setup_module(course.objective)

    def advance(batch: Any, progress: float) -> Numbers:  # noqa: ANN401  # each stage has its own batch
        terms: Numbers = module(fabric.to_device(batch), progress)
        fabric.backward(weighted(terms, settings.stages.weights))
        return {task: loss.detach() for task, loss in terms.items()}

    def validate(averaged: MultitaskNet) -> tuple[float, Tuning]:
        reading = read(fabric, averaged, cohort.tune, settings, settings.stages.tune_slices)
        found = figures(reading, cohort.tune, settings)
        return course.score(found), found

    plan = Plan(
        name=course.name,
        number=NUMBERS[course.name],
        steps=course.steps,
        rates=rates(settings, course.shares),
        weight_decay=settings.stages.weight_decay,
        ema=settings.stages.ema,
        batches=lambda start: _load(course.data, range(start, course.steps), settings.stages.workers),
        advance=advance,
        validate=validate,
        every=course.every,
        patience=settings.stages.patience,
        state=course.objective.cohort if isinstance(course.objective, Joint) else None,
        samples=settings.stages.batch,
    )
    fit(run, net, plan)


def _load(data: Dataset[Any], steps: range, workers: int) -> DataLoader[Any]:
    """Return batches of the steps, made ahead by `workers` processes; each item is a whole batch already."""
    return DataLoader(data, batch_size=None, sampler=steps, num_workers=workers, collate_fn=_as_it_is)


def _as_it_is(batch: Any) -> Any:  # noqa: ANN401  # each stage has its own batch
    return batch


def _fit_heads(run: Run, net: MultitaskNet, cohort: Cohort, name: str) -> None:
    settings, cache = run.settings, run.out / EMBEDDINGS
    stages = settings.stages
    epochs = stages.head_epochs if name == HEADS else stages.settle_epochs
    if not (net.settings.needs_map and epochs):
        return
    net.thaw(("tumour", "survival"))
    net.eval()
    everyone = cohort.everyone
    mixed = [everyone[index] for index in Picker(everyone, settings.mixing).drawable]
    learn, tune = (
        WholeCohort(run.fabric, net, embed(run.fabric, net, samples, settings, cache), settings)
        for samples in (mixed, cohort.tune)
    )
    plan = Plan(
        name=name,
        number=NUMBERS[name],
        steps=epochs,
        rates=dict.fromkeys(("tumour", "survival"), stages.head_learning_rate),
        weight_decay=HEAD_DECAY,
        ema=0.0,
        batches=lambda start: range(start, epochs),
        advance=learn.advance,
        validate=tune.tuning,
        every=max(epochs // HEAD_READINGS, 1) if stages.validate_every else 0,
        patience=stages.patience,
        samples=len(mixed),
    )
    fit(run, net, plan)


def _claim(settings: Settings, out: Path) -> None:
    """Write the settings into `out`, or check that they are those of the run that is there."""
    path = out / "settings.toml"
    if path.exists() and _meaning(load(path)) != _meaning(settings):
        raise ValueError(f"{out} holds a run with other settings; give another --out, or remove it to begin anew")
    if not path.exists():
        settings.save(path)


def _meaning(settings: Settings) -> dict[str, Any]:
    """Return what the weights depend on."""
    document = settings.model_dump(exclude={"threads", "search", "bundle", "calibration", "target", "sources", "goals"})
    measured = ("test", "shifted", "calibrate", "hard", "real_folds")
    for table, idle in (("stages", ("workers", "log_every", "save_every")), ("data", measured)):
        for name in idle:
            del document[table][name]
    return document
