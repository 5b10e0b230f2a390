"""The curriculum: it learns, equal seeds give equal weights, a stopped run goes on as if it had not been."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.cohorts import cohort, make, tiny
from training.curriculum.learnt import FILE
from training.curriculum.log import LOG, read
from training.curriculum.stages import make_fabric, train
from training.curriculum.store import Cohort
from training.curriculum.validate import figures
from training.curriculum.validate import read as read_tuning
from training.network import MultitaskNet


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """The tiny cohort."""
    return cohort(tmp_path_factory.mktemp("cohort"))


def same(a: MultitaskNet, b: MultitaskNet) -> bool:
    """Say whether two networks are equal to the bit."""
    other = b.state_dict()
    return all(torch.equal(value, other[name]) for name, value in a.state_dict().items())


def test_the_curriculum_learns_every_task(samples: Cohort, tmp_path: Path) -> None:
    """After all stages the tiny network outlines, detects and ranks; the log tells every stage and task."""
    settings = tiny(stages__warmup_steps=90, stages__head_epochs=20, stages__joint_steps=40, stages__ema=0.9)
    net = train(settings, samples, tmp_path)
    found = figures(read_tuning(make_fabric(settings), net, samples.tune, settings), samples.tune, settings)
    assert found.dice > 0.6
    assert found.auc > 0.9
    assert found.c_index > 0.6
    rows = read(tmp_path / LOG)
    assert list(dict.fromkeys(row.stage for row in rows)) == ["warmup", "heads", "joint", "settle"]
    joint = [row.numbers for row in rows if row.stage == "joint" and "loss" in row.numbers]
    assert {"seg", "cells", "tumour", "survival", "learning_rate", "seconds"} <= set(joint[-1])
    assert not (tmp_path / "embeddings").exists()
    assert any((tmp_path / "tensorboard").iterdir())


class StoppedError(Exception):
    """A run is stopped here."""


@pytest.mark.parametrize(("stage", "step"), [("warmup", 16), ("heads", 4), ("joint", 8)])
def test_a_resumed_run_equals_an_uninterrupted_one(samples: Cohort, tmp_path: Path, stage: str, step: int) -> None:
    """Stopped between two checkpoints and resumed, weights and log are those of a run that was never stopped."""
    settings = tiny()

    def stop(at: str, number: int, _score: float) -> None:
        if (at, number) == (stage, step):
            raise StoppedError

    whole = train(settings, samples, tmp_path / "whole")
    with pytest.raises(StoppedError):
        train(settings, samples, tmp_path / "cut", watch=stop)
    resumed = train(settings, samples, tmp_path / "cut")
    assert same(whole, resumed)
    assert losses(tmp_path / "whole") == losses(tmp_path / "cut")


def losses(out: Path) -> list[Any]:
    """Return what a log says but for times."""
    timed = {"seconds", "samples_per_second"}
    return [(r.stage, r.step, {k: v for k, v in r.numbers.items() if k not in timed}) for r in read(out / LOG)]


def test_seeds_decide_the_weights(samples: Cohort, tmp_path: Path) -> None:
    """Equal seeds give equal bits, also with loading processes; another seed gives others."""
    few = {"stages__warmup_steps": 6, "stages__head_epochs": 2, "stages__joint_steps": 4, "stages__settle_epochs": 0}
    nets = [
        train(tiny(seed=seed, stages__workers=workers, **few), samples, tmp_path / str(i))
        for i, (seed, workers) in enumerate([(1, 0), (1, 2), (2, 0)])
    ]
    assert same(nets[0], nets[1])
    assert not same(nets[0], nets[2])


def test_another_runs_folder_is_refused(samples: Cohort, tmp_path: Path) -> None:
    """Settings that change the weights may not go on in a folder of other settings; idle ones may."""
    nothing = {f"stages__{name}": 0 for name in ("warmup_steps", "head_epochs", "joint_steps", "settle_epochs")}
    train(tiny(**nothing), samples, tmp_path)
    train(tiny(**nothing, threads=2), samples, tmp_path)
    with pytest.raises(ValueError, match="another --out"):
        train(tiny(**nothing, network__dropout=0.3), samples, tmp_path)


def test_a_folder_is_of_its_own_patients(samples: Cohort, tmp_path: Path) -> None:
    """Other patients, or the same ones with other contents, may not go on in it; nor may anybody without its list."""
    nothing = {f"stages__{name}": 0 for name in ("warmup_steps", "head_epochs", "joint_steps", "settle_epochs")}
    settings = tiny(**nothing)
    train(settings, samples, tmp_path)
    *others, last = samples.train
    fewer = Cohort(train=others, tune=samples.tune)
    with pytest.raises(ValueError, match=r"train: 0 new patients, 1 gone, such as train-17\); give another --out"):
        train(settings, fewer, tmp_path)
    for changed in (replace(last, image=last.image + np.float16(1)), replace(last, time_days=1.0)):
        with pytest.raises(ValueError, match="made anew"):
            train(settings, Cohort(train=[*others, changed], tune=samples.tune), tmp_path)
    (tmp_path / FILE).unlink()
    train(settings, fewer, tmp_path)
    (tmp_path / FILE).unlink()
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "warmup.part.pt").touch()
    with pytest.raises(ValueError, match=f"without {FILE}.*another --out"):
        train(settings, fewer, tmp_path)


def test_a_stage_stops_when_tuning_no_longer_gets_better(samples: Cohort, tmp_path: Path) -> None:
    """Without learning no reading beats the first, so the stage ends after `patience` more."""
    settings = tiny(
        stages__learning_rate=1e-12, stages__patience=2, stages__validate_every=2, stages__head_epochs=0,
        stages__joint_steps=0, stages__ema=0.0, stages__tune_slices=2,
    )  # fmt: skip
    frozen = Cohort(train=samples.train, tune=[make("quiet", 3, ill=False)])
    train(settings, frozen, tmp_path)
    assert max(row.step for row in read(tmp_path / LOG) if row.stage == "warmup") == 6


def test_late_samples_change_nothing_before_they_join(samples: Cohort, tmp_path: Path) -> None:
    """The warm-up is the same to the bit; then the late ones are learnt from, as often as they weigh."""
    late = [make("late", 9, ill=True)]
    settings = tiny(stages__warmup_steps=4, stages__adapt_steps=4, stages__head_epochs=2, stages__joint_steps=0)
    joined = Cohort(train=samples.train, tune=samples.tune, adapt=late, adapt_weight=3)
    alone, adapted = train(settings, samples, tmp_path / "alone"), train(settings, joined, tmp_path / "joined")
    first, second = (torch.load(tmp_path / name / "stages" / "warmup.pt") for name in ("alone", "joined"))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert not (tmp_path / "alone" / "stages" / "adapt.pt").exists()
    assert not same(alone, adapted)
    assert len(joined.everyone) == len(samples.train) + 1
    assert len(joined.drawn) == len(samples.train) + 3
    with pytest.raises(ValueError, match="split by patient"):
        Cohort(train=samples.train, tune=samples.tune, adapt=samples.tune)


@pytest.mark.parametrize("task", ["seg", "cls", "surv"])
def test_a_single_task_trains_alone(samples: Cohort, tmp_path: Path, task: str) -> None:
    """With one switch on, only the parts of that task change, and only its losses are logged."""
    others = {f"network__do_{name}": name == task for name in ("seg", "cls", "surv")}
    few = {"stages__warmup_steps": 3, "stages__head_epochs": 2, "stages__joint_steps": 3, "stages__settle_epochs": 0}
    settings = tiny(**others, **few)
    torch.manual_seed(settings.seed)
    fresh = MultitaskNet(settings.inputs, settings.network)
    net = train(settings, samples, tmp_path)
    moved = {
        count.part
        for count in net.parts()
        if any(
            not torch.equal(a, b)
            for a, b in zip(net.part(count.part).parameters(), fresh.part(count.part).parameters(), strict=True)
        )
    }
    assert moved == {count.part for count in net.parts() if count.used}
    logged = {name for row in read(tmp_path / LOG) for name in row.numbers}
    named = {"seg": "seg", "cls": "tumour", "surv": "survival"}
    assert {name for name in named.values() if name in logged} == {named[task]}


def test_volumes_train_too(samples: Cohort, tmp_path: Path) -> None:
    """A 3-D network goes through every stage on the same samples."""
    few = {"warmup_steps": 3, "head_epochs": 2, "joint_steps": 3, "settle_epochs": 1, "batch": 2, "crop_slices": 8}
    changes = {f"stages__{name}": value for name, value in few.items()}
    settings = tiny(network__spatial_dims=3, recipe__neighbours=1, **changes)
    net = train(settings, samples, tmp_path)
    assert all(bool(value.isfinite().all()) for value in net.state_dict().values())
    assert {row.stage for row in read(tmp_path / LOG)} == {"warmup", "heads", "joint", "settle"}
