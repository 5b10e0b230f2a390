"""Folds, ensembles, the search, and the commands."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from optuna.trial import TrialState
from rich.console import Console
from typer.testing import CliRunner

from tests.cohorts import CONFIG, make, tiny, write
from tests.layouts import ball, head, nifti
from training.__main__ import app
from training.curriculum import search as searching
from training.curriculum.folds import folds
from training.curriculum.log import LOG, Log, Row, read
from training.curriculum.monitor import clock, dashboard, planned, remaining, sparkline
from training.curriculum.stages import STAGES
from training.curriculum.store import Cohort, open_cohort, open_samples, patient_of
from training.network import MultitaskNet
from training.settings import Settings
from training.steps import REAL, Steps

FEW = {"warmup_steps": 4, "head_epochs": 2, "joint_steps": 2, "settle_epochs": 0, "validate_every": 2, "tune_slices": 2}


def short(**changes: object) -> Settings:
    """Return settings of a few steps."""
    return tiny(**{f"stages__{name}": value for name, value in FEW.items()}, **changes)


def test_folds_keep_patients_together_and_hold_each_out_once() -> None:
    """No patient is on two sides of a fold; every sample is held out once; each side has tumours and none."""
    samples = [make(f"s{i}-{j}", i, ill=i % 2 == 0, patient=f"p{i}") for i in range(12) for j in range(2)]
    held: list[str] = []
    for fold in folds(samples, 3, seed=1):
        sides = [{patient_of(s) for s in side} for side in (fold.cohort.train, fold.cohort.tune, fold.held_out)]
        assert sum(len(side) for side in sides) == len(set.union(*sides)) == 12
        assert {s.tumour for s in fold.held_out} == {0, 1}
        held += [s.name for s in fold.held_out]
    assert sorted(held) == sorted(s.name for s in samples)
    with pytest.raises(ValueError, match="cannot be made"):
        next(folds(samples, 12, seed=1))


def test_a_leak_and_a_broken_sample_are_errors(tmp_path: Path) -> None:
    """A patient on both sides, a folder without samples and a file that is none are named."""
    with pytest.raises(ValueError, match="split by patient"):
        Cohort(train=[make("a", 1, ill=True, patient="p")], tune=[make("b", 2, ill=True, patient="p")])
    with pytest.raises(FileNotFoundError, match="no samples"):
        open_samples(tmp_path, tmp_path)
    samples = write(tmp_path / "samples")
    make("again", 1, ill=True, patient="tune-03").save(samples / "test")
    with pytest.raises(ValueError, match=r"\['tune-03'\] are in tune and in test; split by patient"):
        open_cohort(samples, tmp_path / "maps")
    (samples / "test" / "again.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"again.npz is no sample"):
        open_cohort(samples, tmp_path / "maps")
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"bad.npz is no sample"):
        open_samples(tmp_path, tmp_path)


def test_memory_maps_hold_what_the_files_do(tmp_path: Path) -> None:
    """Arrays come back as memory maps with every fact; a changed file is unpacked anew."""
    first = make("a", 1, ill=True, mask=None)
    path = first.save(tmp_path / "train")
    (opened,) = open_samples(tmp_path / "train", tmp_path / "maps")
    assert isinstance(opened.image, np.memmap)
    assert np.array_equal(opened.image, first.image)
    assert opened.mask is None
    assert opened.facts() == first.facts()
    second = make("a", 2, ill=True)
    second.save(path.parent)
    (again,) = open_samples(tmp_path / "train", tmp_path / "maps")
    assert np.array_equal(again.image, second.image)


def test_a_search_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    """Trials left running are tried again, finished ones count; the best is within its span."""
    cohort = open_cohort(write(tmp_path / "samples"), tmp_path / "maps")
    document = short().model_dump()
    document["search"] = {"trials": 2, "space": {"network.dropout": {"low": 0.1, "high": 0.3}}}
    settings = Settings.model_validate(document)
    study = searching.search(settings, cohort, tmp_path / "out")
    study.enqueue_trial({"network.dropout": 0.25})
    interrupted = study.ask()
    interrupted.suggest_float("network.dropout", 0.1, 0.3)
    document["search"]["trials"] = 3
    study = searching.search(Settings.model_validate(document), cohort, tmp_path / "out")
    states = [trial.state for trial in study.trials]
    assert states.count(TrialState.FAIL) == 1
    assert study.trials[-1].params == {"network.dropout": 0.25}
    assert len(study.trials) == 4
    assert 0.1 <= study.best_params["network.dropout"] <= 0.3
    with pytest.raises(ValueError, match=r"search.space"):
        searching.search(short(), cohort, tmp_path / "none")
    with pytest.raises(ValueError, match="other samples"):
        searching.search(settings, Cohort(train=cohort.train[1:], tune=cohort.tune), tmp_path / "out")


def test_a_search_that_was_killed_draws_what_one_that_was_not_draws(tmp_path: Path) -> None:
    """The trial that was left running counts once, so the trials after it are those of an uninterrupted search."""
    cohort = open_cohort(write(tmp_path / "samples"), tmp_path / "maps")
    document = short().model_dump()
    span = {"low": 0.1, "high": 0.3}
    tried: dict[str, list[float]] = {}
    for name, stops in (("whole", [3]), ("killed", [1, 3])):
        for trials in stops:
            document["search"] = {"trials": trials, "space": {"network.dropout": span}}
            study = searching.search(Settings.model_validate(document), cohort, tmp_path / name)
            if trials == 1:
                study.enqueue_trial({"network.dropout": tried["whole"][1]})
                study.ask().suggest_float("network.dropout", 0.1, 0.3)
        finished = study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))
        tried[name] = [trial.params["network.dropout"] for trial in finished]
    assert len(set(tried["whole"])) == 3
    assert tried["killed"] == tried["whole"]


def test_the_log_forgets_what_will_be_written_again(tmp_path: Path) -> None:
    """Rewinding drops later rows of that stage alone; a half-written line is not read."""
    log = Log(tmp_path)
    for stage, step in (("warmup", 10), ("heads", 1), ("heads", 2)):
        log.write(Row(stage=stage, step=step, steps=20, numbers={"loss": 0.5}))
    log.rewind("heads", 1)
    log.close()
    with (tmp_path / LOG).open("a", encoding="utf-8") as file:
        file.write("joint,3")
    assert [(row.stage, row.step) for row in read(tmp_path / LOG)] == [("warmup", 10), ("heads", 1)]


def test_the_dashboard_tells_progress_losses_and_time_left(tmp_path: Path) -> None:
    """Ten of twenty steps in a minute leave a minute; the last and the best reading are shown."""
    rows = [
        Row(stage="warmup", step=5, steps=20, numbers={"seg": 1.5, "loss": 1.5, "seconds": 30.0}),
        Row(stage="warmup", step=5, steps=20, numbers={"tuning_dice": 0.8, "seconds": 30.0}),
        Row(stage="warmup", step=10, steps=20, numbers={"seg": 0.5, "loss": 0.5, "seconds": 60.0}),
        Row(stage="warmup", step=10, steps=20, numbers={"tuning_dice": 0.7, "seconds": 60.0}),
    ]
    console = Console(width=140, record=True)
    console.print(dashboard(tmp_path, rows, planned(short().changed({"stages.warmup_steps": 20}))))
    text = console.export_text()
    assert "10/20" in text
    assert "0:01:00" in text
    assert "0.700" in text
    assert "0.800" in text
    assert "█▁" in text
    assert sparkline([1, 2, 3, 4] * 50, width=2) == "▁▁"
    assert remaining(0, 10, 5.0) is None
    assert clock(3725) == "1:02:05"


def test_the_dashboard_plans_the_stages_that_there_are(tmp_path: Path) -> None:
    """Where real patients may join it shows `adapt` in its place, and no longer once the run has passed it over."""
    settings = short().changed({"stages.adapt_steps": 5, "stages.settle_epochs": 1})
    assert list(planned(settings)) == ["warmup", "heads", "joint", "settle"]
    plan = planned(settings.changed({"data.real_use": "adapt"}))
    assert (list(plan), plan["adapt"]) == (list(STAGES), 5)
    rows = [Row(stage=name, step=1, steps=4, numbers={"loss": 1.0}) for name in ("warmup", "heads")]
    shown = []
    for count in (1, 2):
        console = Console(width=140, record=True)
        console.print(dashboard(tmp_path, rows[:count], plan))
        shown.append("adapt" in console.export_text())
    assert shown == [True, False]


def test_the_commands_run_from_a_settings_file(tmp_path: Path) -> None:
    """`train --members`, `kfold`, `monitor` and `parts` do their work; bad input leaves with 2 and a sentence."""
    config = tmp_path / "tiny.toml"
    short().save(config)
    samples, out = write(tmp_path / "samples"), tmp_path / "out"
    call = CliRunner()
    common = [str(config), "--samples", str(samples)]
    assert call.invoke(app, ["train", *common, "--out", str(out), "--members", "2"]).exit_code == 0
    both = json.loads((out / "ensemble.json").read_text())
    assert len(both["each"]) == 2
    assert both["together"]["auc"] is not None
    assert call.invoke(app, ["monitor", str(out / "member-1"), "--once"]).exit_code == 0
    assert "encoder" in call.invoke(app, ["parts", str(CONFIG)]).output
    folded = call.invoke(app, ["kfold", *common, "--out", str(tmp_path / "k"), "--folds", "2"])
    assert folded.exit_code == 0
    assert len(json.loads((tmp_path / "k" / "kfold.json").read_text())["each"]) == 2
    missing = call.invoke(app, ["train", str(config), "--samples", str(tmp_path / "no"), "--out", str(out)])
    assert missing.exit_code == 2
    assert "no samples" in " ".join(missing.output.split())


def test_other_folds_do_not_go_on_in_a_folder(tmp_path: Path) -> None:
    """`--folds 3` after `--folds 2` would measure networks on whom they learnt from; nor does `train` take others."""
    config, samples = tmp_path / "tiny.toml", write(tmp_path / "samples")
    short().changed({f"stages.{name}": 0 for name in FEW if name != "tune_slices"}).save(config)
    common = [str(config), "--samples", str(samples), "--out"]
    for first, second in (
        (
            ["kfold", *common, str(tmp_path / "k"), "--folds", "2"],
            ["kfold", *common, str(tmp_path / "k"), "--folds", "3"],
        ),
        (["train", *common, str(tmp_path / "t")], ["train", *common, str(tmp_path / "t")]),
    ):
        done = CliRunner().invoke(app, first)
        assert done.exit_code == 0, done.output
        make("newcomer", 77, ill=True).save(samples / "train")
        refused = CliRunner().invoke(app, second, env={"COLUMNS": "400"})
        assert refused.exit_code == 2
        assert "holds a run on other samples" in refused.output
        assert "give another --out" in refused.output
        (samples / "train" / "newcomer.npz").unlink()


def real_patient(root: Path, name: str) -> None:
    """Write a real head with its outline."""
    nifti(root / name / "MR_image.nii.gz", head())
    nifti(root / name / "MR_mask.nii.gz", ball())


def test_a_run_prepares_the_real_patients_that_it_lacks(tmp_path: Path) -> None:
    """After a stop the others follow; a broken one is named each time, however many are there, and never left out."""
    root, out = tmp_path / "real", tmp_path / "out"
    for name in ("a", "b", "c"):
        real_patient(root, name)
    settings = tiny(data__real_use="measure", data__real_root=str(root))
    steps = Steps(settings=settings, out=out)
    broken = root / "b" / "MR_mask.nii.gz"
    broken.write_bytes(b"no picture")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"real patient b cannot be read \(.*take them out of data\.real_root"):
            steps.prepare()
    broken.unlink()
    real_patient(root, "b")
    (out / "samples" / REAL / "c.part.npz").touch()
    steps.prepare()
    assert [sample.name for sample in steps.samples(REAL)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "words",
    [
        ["calibrate", "predictions"],
        ["harvest", "export", "--salt-file", "salt"],
        ["federate", "site", "--out", "federation"],
    ],
    ids=lambda words: words[0],
)
def test_settings_that_are_none_are_named(tmp_path: Path, words: list[str]) -> None:
    """A settings file that is no TOML ends a command with its name and exit code 2, before anything is begun."""
    config = tmp_path / "config.toml"
    config.write_text("seed 1\n")
    refused = CliRunner().invoke(app, [*words, "--config", str(config)], env={"COLUMNS": "400"})
    assert refused.exit_code == 2
    assert f"{config} is no settings file" in refused.output


def test_other_first_weights_do_not_go_on_in_a_federation(tmp_path: Path) -> None:
    """`--weights` that a folder did not begin from, or of another network, end with exit code 2; its own go on."""
    settings, config = tiny(), tmp_path / "tiny.toml"
    settings.save(config)
    for site, seed in (("a", 1), ("b", 2)):
        make(site, seed, ill=True).save(tmp_path / site)
    for name in ("one", "two"):
        torch.save(MultitaskNet(settings.inputs, settings.network).state_dict(), tmp_path / name)
    torch.save(MultitaskNet(1, settings.network).state_dict(), tmp_path / "narrow")
    words = ["federate", str(tmp_path / "a"), str(tmp_path / "b"), "--config", str(config), "--plan", "0x1"]
    said = {}
    for out, weights in (("f", "one"), ("f", "one"), ("f", "two"), ("g", "narrow")):
        where = ["--out", str(tmp_path / out), "--weights", str(tmp_path / weights)]
        said[weights] = CliRunner().invoke(app, [*words, *where], env={"COLUMNS": "400"})
    assert [(name, result.exit_code) for name, result in said.items()] == [("one", 0), ("two", 2), ("narrow", 2)]
    assert "began from other weights" in said["two"].output
    assert "weights of another network" in said["narrow"].output


def test_a_plan_that_is_none_is_named(tmp_path: Path) -> None:
    """`--plan 10` says how a plan is written."""
    words = ["federate", str(tmp_path), "--config", str(CONFIG), "--out", str(tmp_path / "f"), "--plan", "10"]
    refused = CliRunner().invoke(app, words, env={"COLUMNS": "400"})
    assert refused.exit_code == 2
    assert "'10' is no plan; give rounds x steps" in refused.output
