"""Small predictions and their samples, for tests of what reads them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training.data.sample import Sample
from training.predictions import Prediction

SHAPE = (4, 32, 48)
SPACING = (4.0, 1.0, 1.0)
SIDE = 10


@dataclass(frozen=True, kw_only=True)
class Told:
    """A study: whether it has a tumour (a bright block), the outline's shift in columns, logit, risk, follow-up."""

    name: str
    tumour: int | None = 1
    shift: int | None = 0
    logit: float = 3.0
    risk: float = 0.0
    time_days: float | None = None
    event: int | None = None
    patient: str = ""


def block(shift: int = 0) -> tuple[slice, slice, slice]:
    """Return where the tumour is, or the outline `shift` columns beside it."""
    return slice(1, 3), slice(0, SIDE), slice(16 + shift, 16 + SIDE + shift)


def keep(told: Told, predictions: Path, samples: Path | None = None) -> None:
    """Write a prediction and, where `samples` is given, its sample."""
    truth = np.zeros(SHAPE, np.uint8)
    if told.tumour:
        truth[block()] = 1
    probability = np.full(SHAPE, 0.02, np.float16)
    if told.shift is not None:
        probability[block(told.shift)] = 0.95
    entropy = -(probability * np.log(probability) + (1 - probability) * np.log1p(-probability))
    cam = np.full((SHAPE[0], 2, 3), -4, np.float16)
    if told.tumour:
        cam[1:3, 0, 1] = 4
    facts: dict[str, Any] = {
        "patient": told.patient or told.name,
        "source": "phantom test",
        "tumour": told.tumour,
        "spacing": SPACING,
    }
    follow_up: dict[str, Any] = {"time_days": told.time_days, "event": told.event, "log_hazard": None}
    passes = np.linspace(-0.2, 0.2, 5)
    Prediction(
        name=told.name, probability=probability, entropy=entropy, mutual_information=(entropy / 4).astype(np.float16),
        cam=cam, tumour_logits=told.logit + passes, risks=told.risk + passes, truth=truth, strata=(), covariates={},
        **facts, **follow_up,
    ).save(predictions)  # fmt: skip
    if samples is not None:
        image = np.random.default_rng(1).normal(size=(1, *SHAPE)).astype(np.float16)
        image[0, truth == 1] += 5
        Sample(name=told.name, image=image, mask=truth, **facts, **follow_up).save(samples)
