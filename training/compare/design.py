"""Multitask against single-task models of equal size: does sharing an encoder help?

A design is written down before the models are read: which run is the multitask one, which answers each task alone,
and how much worse still counts as no worse. Only those tests are done.
"""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from training.compare.contrast import LEVEL, Contrast, Task

_SWITCH = {Task.SEGMENTATION: "do_seg", Task.DETECTION: "do_cls", Task.SURVIVAL: "do_surv"}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RunFiles(_Frozen):
    """Where a run's predictions and the settings it was trained with are; paths from the design's folder."""

    predictions: Path
    settings: Path


class Design(_Frozen):
    """Which runs are compared on which task; `margin` is how much worse still counts as no worse."""

    multitask: str
    single: dict[Task, str] = Field(min_length=1)
    runs: dict[str, RunFiles]
    margin: float = Field(default=0.02, ge=0)

    @property
    def folders(self) -> dict[str, Path]:
        """Return the predictions of every run that the design names."""
        return {name: self.runs[name].predictions for name in dict.fromkeys((self.multitask, *self.single.values()))}

    def verdicts(self, contrasts: Sequence[Contrast]) -> list[str]:
        """Return a sentence a test."""
        return [_verdict(contrast, self.margin) for contrast in contrasts]


def load(path: Path) -> Design:
    """Return the design in `path`, its paths made whole.

    Raises:
        ValueError: it is not a design, names a run it does not have, or its models are not equal but for their tasks.
    """
    try:
        design = Design.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (ValidationError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path} is no design: {error}; see docs/training/comparing.md") from error
    absent = {design.multitask, *design.single.values()} - set(design.runs)
    if absent:
        raise ValueError(f"{path} names {', '.join(sorted(absent))} but has no such table under [runs]; add it")
    whole = {
        name: RunFiles(predictions=path.parent / run.predictions, settings=path.parent / run.settings)
        for name, run in design.runs.items()
    }
    design = design.model_copy(update={"runs": whole})
    _demand_equal(design)
    return design


def _demand_equal(design: Design) -> None:
    """Raise ValueError unless all models have the multitask one's size and data, and each only its own task."""
    shared = _settings(design.runs[design.multitask].settings)
    for task, name in design.single.items():
        own = _settings(design.runs[name].settings)
        if _tasks(own) != {task}:
            told = ", ".join(sorted(_tasks(own)))
            raise ValueError(f"{name} is to do {task} alone but was trained for {told}; correct its {_SWITCH[task]}")
        differing = [key for key in ("network", "data", "recipe") if _bare(shared, key) != _bare(own, key)]
        if differing:
            raise ValueError(
                f"{name} and {design.multitask} differ in [{'], ['.join(differing)}] beyond their tasks, so they would "
                "not show what sharing does; train both with equal settings"
            )
    missing = set(design.single) - _tasks(shared)
    if missing:
        raise ValueError(f"{design.multitask} was not trained for {', '.join(sorted(missing))}; switch that on")


def _settings(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is no settings file: {error}") from error


def _tasks(settings: Mapping[str, Any]) -> set[Task]:
    network = settings.get("network", {})
    return {task for task, switch in _SWITCH.items() if network.get(switch, True)}


def _bare(settings: Mapping[str, Any], table: str) -> dict[str, Any]:
    return {key: value for key, value in settings.get(table, {}).items() if key not in _SWITCH.values()}


def _verdict(contrast: Contrast, margin: float) -> str:
    numbers = f"{contrast.difference:+.3f}, 95 % {contrast.low:+.3f} to {contrast.high:+.3f}"
    if contrast.p_holm < LEVEL:
        word = "helps" if contrast.difference > 0 else "harms"
    elif contrast.low > -margin:
        word = f"is no worse by more than {margin:g}, and not shown to be better, for"
    else:
        word = "shows no difference, and too few studies to rule one out, for"
    return f"Sharing {word} {contrast.task}: {contrast.metric} {numbers}."
