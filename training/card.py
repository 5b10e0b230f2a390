"""The model card: what a bundle is, what it was made of, what it reaches and where it ends."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from training.calibration.evidence import number, rows
from training.calibration.figures import Scores
from training.calibration.fit import Fitted
from training.provenance import Used
from training.settings import Goals, Settings

WORDS = {
    "dice_mean": "Dice mean",
    "auc": "AUC",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "c_index_share": "C-index, share of the oracle's",
}


def card(
    settings: Settings, fitted: Fitted, scores: Mapping[str, Scores], used: Sequence[Used], members: int = 1
) -> str:
    """Return the card as Markdown; every number names the data it is from."""
    return f"""# {settings.bundle.title} {settings.bundle.version}

Research use only; not a medical device. Outlines tumour, gives {_given(fitted)}, each with
its MC-dropout uncertainty ({settings.bundle.passes} passes{_shared(members)}, rate {settings.network.dropout}).
Licence of the weights: Apache-2.0.

## Data
{_data(used)}

Phantoms have a **simulated** follow-up from a known hazard: their survival numbers show that the method works, not that
it predicts a patient's survival. Splits share no patient; phantoms share the few anatomies that they are made of.

## Figures of this INT8 bundle, through the daemon's inference
Synthetic scores are not clinical ones. Where a set holds tumours only, its sensitivity says nothing of false alarms.

| data | studies | Dice mean | Dice median | AUC | sensitivity | specificity | C-index | oracle's |
|---|---|---|---|---|---|---|---|---|
{_figures(scores)}

{goals_section(settings.goals, scores)}## Calibration
{_guarantee(fitted)}

| what | value | on |
|---|---|---|
{_table(rows(fitted))}

## Limits
Trained on few anatomies; unseen disease, post-operative change, children, artefacts and other protocols were not
tested. What the first pass misses has no voxel uncertainty of its own. Guarantees hold for studies like those of the
calibration; at a new site, calibrate anew on its own studies.
"""


def _given(fitted: Fitted) -> str:
    risk = "a survival risk" if fitted.calibration.survival_fitted else "no survival risk (not fitted)"
    return f"a tumour probability and {risk}"


def _shared(members: int) -> str:
    return f" shared among {members} networks trained from seeds of their own" if members > 1 else ""


def _data(used: Sequence[Used]) -> str:
    if not used:
        return "No provenance was recorded."
    head = "| used for | data | patients | samples | licence | doi | SHA-256 |\n|---|---|---|---|---|---|---|\n"
    return head + _table(
        (
            item.use,
            item.origin.name,
            str(item.patients),
            str(item.samples),
            item.origin.licence,
            item.origin.doi or "none",
            item.digest[:16],
        )
        for item in used
    )


def _figures(scores: Mapping[str, Scores]) -> str:
    return _table(
        (
            name,
            str(s.studies),
            *(number(v) for v in (s.dice_mean, s.dice_median, s.auc, s.sensitivity, s.specificity)),
            number(s.c_index),
            number(s.c_index_oracle),
        )
        for name, s in scores.items()
    )


def goals_section(goals: Mapping[str, Goals], scores: Mapping[str, Scores]) -> str:
    """Return the section of what was aimed at and what was reached; nothing without goals."""
    lines = [
        (data, WORDS[metric], f"{goal:g}", *_reached(scores.get(data), metric, goal))
        for data, wanted in goals.items()
        for metric, goal in wanted.model_dump(exclude_none=True).items()
    ]
    if not lines:
        return ""
    head = "| data | figure | goal | reached | |\n|---|---|---|---|---|\n"
    return f"## Goals, set before training\n{head}{_table(lines)}\n\n"


def _reached(found: Scores | None, metric: str, goal: float) -> tuple[str, str]:
    value = float("nan") if found is None else float(getattr(found, metric))
    if np.isnan(value):
        return "n/a", "not measured"
    return number(value), "reached" if value >= goal else "**short**"


def _guarantee(fitted: Fitted) -> str:
    aim, found = fitted.evidence.settings, fitted.evidence
    said = f"{found.choosing} studies chose scales and the mask threshold, {found.testing} tested what follows"
    said += ", no patient in both." if found.apart else ": the same ones, since they are too few to part."
    if found.sensitivity.guaranteed:
        return (
            f"{said} With probability {1 - aim.delta:g} the sensitivity of the tumour answer is at least "
            f"{aim.sensitivity:g} for tumours of {found.sensitivity_ml:g} ml or more in studies like these "
            "(Learn-then-Test, exact binomial; a patient counts once, by the study of the lowest probability)."
        )
    return (
        f"{said} **The sensitivity of {aim.sensitivity:g} is not guaranteed**: the threshold is one of the highest "
        "sensitivity seen."
    )


def _table(lines: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
