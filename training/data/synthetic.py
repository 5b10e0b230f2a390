"""Phantoms as samples, with follow-up drawn from their known hazard."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np
from rich.progress import track

from daemon.domain.model_bundle import Recipe
from daemon.imaging.steps import prepare, to_grid
from daemon.imaging.volume import Grid, Volume
from dicom_fixtures.phantoms import Phantom
from training.data.sample import Sample

Task = TypeVar("Task")
CONTRASTS = ("FLAIR", "T2", "T1C", "T1")
CONTRAST_WEIGHTS = (0.45, 0.2, 0.2, 0.15)
STAGE_HAZARD = 0.25


@dataclass(frozen=True, kw_only=True)
class Naming:
    """What a sample is called and where it is from."""

    name: str
    contrast: str
    source: str
    strata: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FollowUp:
    """Hazard of a patient whose log hazard is 0, per day, and the longest follow-up in days."""

    hazard_per_day: float = 1 / 900
    censor_days: float = 2200


def volumes(made: Phantom, contrast: str) -> dict[str, Volume]:
    """Return a phantom's images by channel role."""
    grid = Grid(size=made.mask.shape, spacing=made.spacing, origin=made.origin)
    roles = {"MR": contrast, "PET": "PET", "CT": "CT"}
    return {r: Volume(voxels=made.images[n], grid=grid) for r, n in roles.items() if n in made.images}


def follow_up(rng: np.random.Generator, log_hazard: float, per_day: float, censor_days: float) -> tuple[float, int]:
    """Return (days, event): exponential survival with the given hazard, uniform administrative censoring."""
    died = float(rng.exponential(1 / (per_day * np.exp(log_hazard))))
    censored = float(rng.uniform(0.2, 1.0) * censor_days)
    return max(min(died, censored), 1.0), int(died <= censored)


def clinical(rng: np.random.Generator, made: Phantom) -> tuple[dict[str, float], float]:
    """Return clinical covariates and the log hazard they and the phantom imply together.

    Stage (0 without tumour, else 1 to 4) rises with burden and adds `STAGE_HAZARD` per step over 1; sex (1 female)
    and weight change nothing, as some columns of every table do.
    """
    burden = sum(lesion.volume_ml for lesion in made.lesions)
    odds = float(np.clip(0.25 + 0.12 * np.log2(max(burden, 0.1) / 10), 0.05, 0.9))
    stage = 1 + int(rng.binomial(3, odds)) if made.lesions else 0
    covariates = {
        "age_years": made.age_years,
        "stage": float(stage),
        "female": float(made.sex == "F"),
        "weight_kg": made.weight_kg,
    }
    return covariates, made.log_hazard + STAGE_HAZARD * max(stage - 1, 0)


def sample(rng: np.random.Generator, made: Phantom, naming: Naming, recipe: Recipe, follow: FollowUp) -> Sample:
    """Return a phantom as a prepared sample with follow-up drawn from its hazard."""
    ready = prepare(volumes(made, naming.contrast), recipe)
    grid = Grid(size=made.mask.shape, spacing=made.spacing, origin=made.origin)
    covariates, hazard = clinical(rng, made)
    days, event = follow_up(rng, hazard, follow.hazard_per_day, follow.censor_days)
    return Sample(
        name=naming.name,
        source=naming.source,
        image=ready.array.astype(np.float16),
        mask=(to_grid(made.mask.astype(np.float32), grid, ready.grid) > 0.5).astype(np.uint8),
        tumour=int(made.mask.any()),
        spacing=recipe.spacing,
        patient=naming.name,
        strata=naming.strata,
        covariates=covariates,
        time_days=days,
        event=event,
        log_hazard=hazard,
    )


def in_parallel(work: Callable[[Task], Path], tasks: Sequence[Task], *, workers: int) -> list[Path]:
    """Return `work` of every task, done by `workers` processes of one thread each."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")
    if workers == 1:
        return [work(task) for task in track(tasks, description="phantoms")]
    with ProcessPoolExecutor(max_workers=workers, mp_context=get_context("spawn")) as pool:
        made = pool.map(work, tasks, chunksize=4)
        return list(track(made, total=len(tasks), description="phantoms"))
