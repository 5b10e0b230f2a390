"""A prediction in numbers, whether its answer is right, and a seeded choice of as many right as wrong ones."""

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from daemon.inference.bundle import load_bundle
from training.data.sample import npz_files
from training.predictions import Prediction

Mask = NDArray[np.bool_]


class Outcome(StrEnum):
    """What became of a study: the answer against the truth."""

    TRUE_POSITIVE = "true positive"
    FALSE_NEGATIVE = "false negative"
    FALSE_POSITIVE = "false positive"
    TRUE_NEGATIVE = "true negative"


class Fit(StrEnum):
    """How well an outline fits: Dice from .8, from .5, below."""

    GOOD = "good outline, Dice ≥ .8"
    FAIR = "fair outline, Dice .5 to .8"
    POOR = "poor outline, Dice < .5"


@dataclass(frozen=True, kw_only=True)
class Point:
    """The operating point: tumour where sigmoid(slope x logit + intercept), averaged over the passes, is high enough.

    `mask_threshold` cuts the mean voxel probability. The values here hold for a model that nobody calibrated.
    """

    platt_slope: float = 1.0
    platt_intercept: float = 0.0
    threshold: float = 0.5
    mask_threshold: float = 0.5

    @classmethod
    def of_bundle(cls, folder: Path) -> "Point":
        """Return the operating point of a sealed bundle.

        Raises:
            daemon.errors.FatalError: the bundle is damaged.
        """
        calibration = load_bundle(folder).manifest.calibration
        names = ("platt_slope", "platt_intercept", "threshold", "mask_threshold")
        return cls(**{name: getattr(calibration, name) for name in names})


UNCALIBRATED = Point()


@dataclass(frozen=True, kw_only=True)
class Case:
    """A study in numbers.

    `probability` of tumour and its `probability_sd` over the passes; `dice` NaN where no truth has a voxel; volumes in
    ml, `truth_ml` NaN without a truth; `risk` the mean log hazard; `at` the slice to look at.
    """

    name: str
    patient: str
    source: str
    tumour: int | None
    probability: float
    probability_sd: float
    positive: bool
    dice: float
    volume_ml: float
    truth_ml: float
    risk: float
    time_days: float | None
    event: int | None
    at: int

    @property
    def outcome(self) -> Outcome | None:
        """Return right or wrong; None where nobody said whether there is a tumour."""
        if self.tumour is None:
            return None
        if self.tumour:
            return Outcome.TRUE_POSITIVE if self.positive else Outcome.FALSE_NEGATIVE
        return Outcome.FALSE_POSITIVE if self.positive else Outcome.TRUE_NEGATIVE

    @property
    def fit(self) -> Fit | None:
        """Return how well the outline fits; None without a tumour to outline."""
        if np.isnan(self.dice):
            return None
        if self.dice >= 0.8:
            return Fit.GOOD
        return Fit.FAIR if self.dice >= 0.5 else Fit.POOR


def case_of(prediction: Prediction, point: Point) -> Case:
    """Return a prediction in numbers at an operating point."""
    logits = point.platt_slope * prediction.tumour_logits + point.platt_intercept
    probability = 0.5 + 0.5 * np.tanh(0.5 * logits)
    outline = prediction.probability >= point.mask_threshold
    truth = None if prediction.truth is None else prediction.truth.astype(bool)
    return Case(
        **{name: getattr(prediction, name) for name in ("name", "source", "tumour", "time_days", "event")},
        patient=prediction.patient or prediction.name,
        probability=float(probability.mean()),
        probability_sd=float(probability.std()),
        positive=bool(probability.mean() >= point.threshold),
        dice=dice(outline, truth),
        volume_ml=float(outline.sum()) * prediction.voxel_ml,
        truth_ml=float("nan") if truth is None else float(truth.sum()) * prediction.voxel_ml,
        risk=float(prediction.risks.mean()),
        at=_telling_slice(prediction, outline, truth),
    )


def dice(outline: Mask, truth: Mask | None) -> float:
    """Return the overlap (Dice 1945); NaN without a truth or with an empty one."""
    if truth is None or not truth.any():
        return float("nan")
    return float(2 * (outline & truth).sum() / (outline.sum() + truth.sum()))


def _telling_slice(prediction: Prediction, outline: Mask, truth: Mask | None) -> int:
    """Return the slice with most tumour, else most outline, else the highest evidence."""
    for marked in (truth, outline):
        if marked is not None and marked.any():
            return int(marked.sum(axis=(1, 2)).argmax())
    return int(prediction.cam.max(axis=(1, 2)).argmax())


def stream(folder: Path) -> Iterator[Prediction]:
    """Yield a folder's predictions by name, one in memory at a time.

    Raises:
        FileNotFoundError: it holds none.
        ValueError: a file is no prediction.
    """
    paths = npz_files(folder)
    if not paths:
        raise FileNotFoundError(f"no predictions in {folder}; run the prediction of that set first")
    for path in paths:
        try:
            yield Prediction.load(path)
        except (KeyError, TypeError, ValueError, zipfile.BadZipFile, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is not a prediction ({error}); give the folder that `predict` wrote") from error


def balanced(members: Mapping[str, Sequence[Case]], each: int, seed: int) -> dict[str, list[Case]]:
    """Return up to `each` cases of every group, drawn without replacement from Philox; a group may stay empty."""
    rng = np.random.Generator(np.random.Philox(seed))
    return {group: [cases[i] for i in sorted(rng.permutation(len(cases))[:each])] for group, cases in members.items()}


def data_words(sources: Sequence[str]) -> str:
    """Return what a caption says of the data: no synthetic study may pass for a patient."""
    names = sorted(set(sources))
    made = [name for name in names if name.lower().startswith(("phantom", "synthetic"))]
    listed = ", ".join(names)
    if len(made) == len(names):
        return f"synthetic data ({listed})"
    return f"partly synthetic data ({listed})" if made else f"data: {listed}"
