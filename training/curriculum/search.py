"""Hyper-parameter search: Optuna proposes, the curriculum tries, hopeless trials are pruned."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import optuna
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from training.curriculum.learnt import Learnt
from training.curriculum.log import LOG, read
from training.curriculum.stages import train
from training.curriculum.store import Cohort
from training.settings import Settings, Span

DATABASE = "search.db"
STUDY = "overread"


def search(settings: Settings, cohort: Cohort, out: Path) -> optuna.Study:
    """Try settings until `search.trials` trials are done; return the study. It stands in `out`/search.db.

    A search that was stopped goes on: finished trials count, and the trial it was in resumes from its checkpoint.

    Raises:
        ValueError: the settings name nothing to search, or `out` holds a search on other samples.
    """
    space = settings.search.space
    if not space:
        raise ValueError("the settings have no [search.space]; name a setting and its range, as docs/training says")
    Learnt.of(cohort, settings.stages.start).claim(out)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = RDBStorage(f"sqlite:///{(out / DATABASE).resolve()}")
    study = optuna.create_study(
        storage=storage,
        study_name=STUDY,
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(5),
    )
    _revive(study)
    while (done := len(study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED)))) < settings.search.trials:
        # The sampler forgets its state with the process, so each trial has a seed of its own.
        study.sampler = optuna.samplers.TPESampler(seed=(settings.seed + done) % 2**32)
        study.optimize(lambda trial: _try(trial, settings, cohort, out), n_trials=1)
    return study


def _revive(study: optuna.Study) -> None:
    """Put trials that a stopped search left running back in the queue, with their parameters."""
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)


def _try(trial: optuna.Trial, settings: Settings, cohort: Cohort, out: Path) -> float:
    values = {path: suggest(trial, path, span) for path, span in settings.search.space.items()}
    name = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]
    folder = out / f"trial-{name}"
    trial.set_user_attr("folder", folder.name)
    train(settings.changed(values), cohort, folder, watch=_pruned(trial))
    return score(folder)


def suggest(trial: optuna.Trial, path: str, span: Span) -> object:
    """Return the value that the trial proposes for a setting."""
    if span.choices:
        return trial.suggest_categorical(path, span.choices)
    low, high = span.low or 0.0, span.high or 0.0
    if span.whole:
        return trial.suggest_int(path, int(low), int(high), log=span.log)
    return trial.suggest_float(path, low, high, log=span.log)


def score(folder: Path) -> float:
    """Return the best tuning score of the last stage of a run that outlines: joint, else warm-up, else heads."""
    rows = [(row.stage, row.numbers["tuning_score"]) for row in read(folder / LOG) if "tuning_score" in row.numbers]
    for stage in ("joint", "warmup", "heads"):
        found = [value for name, value in rows if name == stage]
        if found:
            return max(found)
    raise ValueError("nothing was validated, so trials cannot be compared; set stages.validate_every above 0")


def _pruned(trial: optuna.Trial) -> Callable[[str, int, float], None]:
    """Return a watch that stops a trial whose warm-up falls behind the others' at the same step."""

    def watch(stage: str, step: int, value: float) -> None:
        if stage != "warmup":
            return
        trial.report(value, step)
        if trial.should_prune():
            raise optuna.TrialPruned

    return watch
