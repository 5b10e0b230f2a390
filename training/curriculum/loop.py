"""The loop of every stage: steps, clipping, averaging, logging, validation, checkpoints.

A step's randomness is seeded by (seed, stage, step, process), and a checkpoint holds all else that a step depends on;
so a run that was stopped and resumed equals one that was not, bit for bit.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from rich.progress import Progress
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from training.curriculum.log import Log, Row
from training.curriculum.validate import Tuning
from training.network import PARTS, MultitaskNet, Part
from training.settings import Settings

Numbers = dict[str, Tensor]
WARM_SHARE = 0.1


def nothing(_stage: str, _step: int, _score: float) -> None:
    """Watch a run without doing anything."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """Where and how a run goes on; `watch` is told every validation: stage, step, score (higher is better)."""

    settings: Settings
    fabric: Fabric
    out: Path
    log: Log | None
    watch: Callable[[str, int, float], None] = nothing

    def checkpoint(self, stage: str) -> Path:
        """Return where a finished stage's weights are."""
        return self.out / "stages" / f"{stage}.pt"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One stage.

    `rates` are the learning rates of the parts that learn. `batches` yields a batch for each step from the given one
    on. `advance` runs a batch forward and backward and returns its losses by task. `validate` reads the averaged
    network; `score` of what it returns decides which weights are kept.
    """

    name: str
    number: int
    steps: int
    rates: Mapping[Part, float]
    weight_decay: float
    ema: float
    batches: Callable[[int], Iterable[Any]]
    advance: Callable[[Any, float], Numbers]
    validate: Callable[[MultitaskNet], tuple[float, Tuning | None]] | None
    every: int
    patience: int
    state: nn.Module | None = None
    samples: int = 1


@dataclass(kw_only=True)
class State:
    """What changes from step to step."""

    net: MultitaskNet
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LambdaLR
    average: AveragedModel
    plan: Plan
    step: int = 0
    seconds: float = 0.0
    best: float = -np.inf
    waited: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    mark: float = field(default_factory=time.monotonic)

    @classmethod
    def start(cls, net: MultitaskNet, plan: Plan) -> "State":
        """Return the state before the first step."""
        groups = [
            {"params": [p for p in net.part(name).parameters() if p.requires_grad], "lr": rate}
            for name, rate in plan.rates.items()
        ]
        optimiser = torch.optim.AdamW([g for g in groups if g["params"]], weight_decay=plan.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: warm_cosine(step, plan.steps))
        average = AveragedModel(net, multi_avg_fn=warm_average(plan.ema), use_buffers=True)
        return cls(net=net, optimiser=optimiser, schedule=schedule, average=average, plan=plan)

    def save(self, path: Path) -> None:
        """Write the state, whole or not at all."""
        document = {name: getattr(self, name).state_dict() for name in self._modules()}
        document |= {name: getattr(self, name) for name in ("step", "seconds", "best", "waited", "best_weights")}
        if self.plan.state is not None:
            document["plan"] = self.plan.state.state_dict()
        keep(document, path)

    def resume(self, path: Path) -> None:
        """Go on from what `save` wrote."""
        document = torch.load(path, weights_only=True)
        for name in self._modules():
            getattr(self, name).load_state_dict(document[name])
        for name in ("step", "seconds", "best", "waited", "best_weights"):
            setattr(self, name, document[name])
        if self.plan.state is not None:
            self.plan.state.load_state_dict(document["plan"])

    def tick(self) -> None:
        """Count the time since the last tick."""
        now = time.monotonic()
        self.seconds += now - self.mark
        self.mark = now

    @staticmethod
    def _modules() -> tuple[str, ...]:
        return ("net", "optimiser", "schedule", "average")

    @property
    def averaged(self) -> MultitaskNet:
        """Return the averaged network."""
        module = self.average.module
        if not isinstance(module, MultitaskNet):
            raise TypeError("the averaged model wraps another network")
        return module


def fit(run: Run, net: MultitaskNet, plan: Plan) -> None:
    """Train `net` through a stage and leave in it the averaged weights that did best; a finished stage is read.

    Raises:
        FloatingPointError: a gradient is not finite.
    """
    done = run.checkpoint(plan.name)
    if done.exists() or not plan.steps:
        if done.exists():
            net.load_state_dict(torch.load(done, weights_only=True))
        return
    state, partial = State.start(net, plan), done.with_suffix(".part.pt")
    if partial.exists():
        state.resume(partial)
    if run.log is not None:
        run.log.rewind(plan.name, state.step)
    with Progress(disable=not run.fabric.is_global_zero) as bar:
        task = bar.add_task(plan.name, total=plan.steps, completed=state.step)
        for batch in plan.batches(state.step):
            _step(run, state, batch)
            bar.update(task, completed=state.step)
            last = state.step >= plan.steps
            stop = _validated(run, state) if _due(plan, state.step) else False
            if stop or last:
                break
            if state.step % run.settings.stages.save_every == 0:
                _on_first(run, lambda: state.save(partial))
    net.load_state_dict(state.best_weights or state.averaged.state_dict())
    _agree(run.fabric, net)
    _on_first(run, lambda: keep(net.state_dict(), done))
    _on_first(run, lambda: partial.unlink(missing_ok=True))


def _agree(fabric: Fabric, net: MultitaskNet) -> None:
    """Give every process the first one's BatchNorm statistics, which each has taken from its own batches."""
    if fabric.world_size > 1:
        for buffer in net.buffers():
            buffer.copy_(fabric.broadcast(buffer))


def _due(plan: Plan, step: int) -> bool:
    return plan.validate is not None and plan.every > 0 and (step % plan.every == 0 or step >= plan.steps)


def _step(run: Run, state: State, batch: Any) -> None:  # noqa: ANN401  # each stage has its own batch
    plan, stages = state.plan, run.settings.stages
    torch.manual_seed(seed_of(run.settings.seed, plan.number, state.step, run.fabric.global_rank))
    state.optimiser.zero_grad()
    terms = plan.advance(batch, state.step / plan.steps)
    learning = [p for group in state.optimiser.param_groups for p in group["params"]]
    try:
        torch.nn.utils.clip_grad_norm_(learning, stages.clip, error_if_nonfinite=True)
    except RuntimeError as error:
        raise FloatingPointError(
            f"{plan.name}, step {state.step}: a gradient is not finite; lower stages.learning_rate or look for "
            "infinite voxels in the samples"
        ) from error
    rate = state.optimiser.param_groups[-1]["lr"]
    state.optimiser.step()
    state.schedule.step()
    state.average.update_parameters(state.net)
    state.step += 1
    state.tick()
    if run.log is not None and (state.step % stages.log_every == 0 or state.step in {1, plan.steps}):
        numbers = {task: float(loss) for task, loss in terms.items()}
        weights = stages.weights
        numbers["loss"] = sum(getattr(weights, task) * value for task, value in numbers.items())
        speed = plan.samples * run.fabric.world_size * state.step / max(state.seconds, 1e-9)
        numbers |= {"learning_rate": rate, "seconds": state.seconds, "samples_per_second": speed}
        run.log.write(Row(stage=plan.name, step=state.step, steps=plan.steps, numbers=numbers))


def _validated(run: Run, state: State) -> bool:
    """Read the tuning set, keep the averaged weights if they are the best yet, and return whether to stop."""
    plan = state.plan
    if plan.validate is None:
        return False
    score, tuning = plan.validate(state.averaged)
    state.tick()
    better = score > state.best
    state.waited = 0 if better else state.waited + 1
    if better:
        state.best = score
        state.best_weights = {k: v.detach().clone() for k, v in state.averaged.state_dict().items()}
    if run.log is not None:
        known = {} if tuning is None else {"dice": tuning.dice, "auc": tuning.auc, "c_index": tuning.c_index}
        numbers = {f"tuning_{name}": value for name, value in {**known, "score": score}.items() if not np.isnan(value)}
        numbers["seconds"] = state.seconds
        run.log.write(Row(stage=plan.name, step=state.step, steps=plan.steps, numbers=numbers))
    run.watch(plan.name, state.step, score)
    return 0 < plan.patience <= state.waited


def seed_of(*key: int) -> int:
    """Return the seed that belongs to a key such as (seed, stage, step, process)."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


def warm_cosine(step: int, steps: int) -> float:
    """Return the learning rate's share: up over the first tenth, then down by a cosine (Loshchilov and Hutter 2017)."""
    warm = max(int(steps * WARM_SHARE), 1)
    if step < warm:
        return (step + 1) / (warm + 1)
    return float(0.5 * (1 + np.cos(np.pi * (step - warm) / max(steps - warm, 1))))


def warm_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """Return an exponential moving average that forgets faster at first, so that short runs are not left behind."""

    def update(averaged: Any, current: Any, count: Any) -> None:  # noqa: ANN401  # torch's own signature
        counted = float(count)
        get_ema_multi_avg_fn(min(decay, (1 + counted) / (10 + counted)))(averaged, current, count)

    return update


def keep(document: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.writing")
    torch.save(dict(document), partial)
    partial.rename(path)


def _on_first(run: Run, act: Callable[[], None]) -> None:
    if run.fabric.is_global_zero:
        act()
    run.fabric.barrier()


def rates(settings: Settings, shares: Mapping[Part, float]) -> dict[Part, float]:
    """Return learning rates from shares of the settings' rate, in the order of the parts."""
    return {name: settings.stages.learning_rate * shares[name] for name in PARTS if shares.get(name)}
