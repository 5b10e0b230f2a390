"""A tiny cohort with bright blocks for tumours, and settings that train on it in seconds."""

from pathlib import Path
from typing import Any

import numpy as np

from training.curriculum.store import Cohort, open_cohort
from training.data.sample import Sample
from training.settings import Settings, load

CONFIG = Path(__file__).parents[1] / "training" / "configs" / "brain-mri.toml"
TINY: dict[str, Any] = {
    "threads": 1,
    "augment.flat": 0.0,
    "augment.planes": 0.0,
    "network.widths": (4, 8, 16),
    "stages.crop": 32,
    "stages.batch": 4,
    "stages.warmup_steps": 24,
    "stages.head_epochs": 6,
    "stages.joint_steps": 16,
    "stages.settle_epochs": 3,
    "stages.learning_rate": 5e-3,
    "stages.validate_every": 8,
    "stages.save_every": 5,
    "stages.workers": 0,
}


def tiny(**changes: object) -> Settings:
    """Return settings of a run of seconds; `changes` names settings with __ for the dot."""
    named = {name.replace("__", "."): value for name, value in changes.items()}
    return load(CONFIG).changed({**TINY, **named})


def make(name: str, seed: int, *, ill: bool, **facts: Any) -> Sample:  # noqa: ANN401  # a sample's own fields
    """Return a sample of noise with a bright block where there is a tumour; a large block shortens life."""
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 0.5, size=(1, 6, 40, 48)).astype(np.float16)
    mask = np.zeros((6, 40, 48), np.uint8)
    if ill:
        z, y, x, size = (int(rng.integers(*span)) for span in ((1, 3), (4, 20), (4, 24), (6, 14)))
        mask[z : z + 3, y : y + size, x : x + size] = 1
        image[0][mask > 0] += 3
    known = {
        "mask": mask,
        "tumour": int(ill),
        "time_days": float(100 - mask.sum() / 20 + rng.normal()),
        "event": int(rng.random() < 0.7),
        "source": "a",
        "patient": name,
    }
    return Sample(name=name, image=image, spacing=(3.0, 1.0, 1.0), **{**known, **facts})


def write(folder: Path, train: int = 18, tune: int = 8) -> Path:
    """Write a cohort: of the training samples some lack their mask, some their label, some their follow-up."""
    lacks: dict[int, dict[str, None]] = {
        1: {"mask": None},
        3: {"tumour": None},
        5: {"time_days": None, "event": None},
    }
    for i in range(train):
        source = {"source": "ab"[i % 2]}
        make(f"train-{i:02d}", i, ill=i % 3 != 2, **source, **lacks.get(i % 7, {})).save(folder / "train")
    for i in range(tune):
        make(f"tune-{i:02d}", 100 + i, ill=i % 2 == 0).save(folder / "tune")
    return folder


def cohort(folder: Path) -> Cohort:
    """Return the tiny cohort as memory maps."""
    return open_cohort(write(folder / "samples"), folder / "maps")
