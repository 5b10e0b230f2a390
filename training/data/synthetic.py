"""Phantoms as samples, with follow-up drawn from their known hazard."""

import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from rich.progress import track

from daemon.imaging.steps import prepare, to_grid
from daemon.imaging.volume import Grid, Volume
from dicom_fixtures.phantoms import BrainRequest, PetCtRequest, Phantom, brain, petct
from training.data.sample import Sample
from training.settings import Settings

# 2 000 000 was measured before the rule for the threshold changed, and is spent.
SPLIT_OFFSET = {"train": 0, "tune": 1_000_000, "test": 3_000_000}
CONTRASTS = ("FLAIR", "T2", "T1C", "T1")
CONTRAST_WEIGHTS = (0.5, 0.2, 0.15, 0.15)


def phantom(settings: Settings, split: str, index: int) -> tuple[Phantom, str]:
    """Return phantom `index` of a split and its contrast; test phantoms are the plain ones the fixtures make."""
    seed = settings.seed * 10_000_000 + SPLIT_OFFSET[split] + index
    rng = np.random.Generator(np.random.Philox(seed))
    lesions = 0 if rng.random() < settings.data.normal_fraction else int(rng.choice((1, 1, 1, 2, 3)))
    wide = split != "test" and rng.random() < 0.85
    if settings.data.kind == "brain":
        contrast = "FLAIR" if split == "test" else str(rng.choice(CONTRASTS, p=CONTRAST_WEIGHTS))
        return brain(BrainRequest(seed=seed, lesions=lesions, contrasts=(contrast,), randomise=wide)), contrast
    return petct(PetCtRequest(seed=seed, lesions=lesions, randomise=wide)), "FDG"


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


def make(settings: Settings, split: str, index: int) -> Sample:
    """Return sample `index` of a split."""
    made, contrast = phantom(settings, split, index)
    images = volumes(made, contrast)
    ready = prepare(images, settings.recipe)
    grid = Grid(size=made.mask.shape, spacing=made.spacing, origin=made.origin)
    marked = Volume(voxels=made.mask.astype(np.float32), grid=grid)
    rng = np.random.Generator(np.random.Philox(settings.seed + SPLIT_OFFSET[split] + index + 7))
    days, event = follow_up(rng, made.log_hazard, settings.data.hazard_per_day, settings.data.censor_days)
    return Sample(
        name=_name(split, index),
        source=f"phantom {contrast}",
        image=ready.array.astype(np.float16),
        mask=(to_grid(marked.voxels, marked.grid, ready.grid) > 0.5).astype(np.uint8),
        tumour=int(made.mask.any()),
        spacing=settings.recipe.spacing,
        patient=_name(split, index),
        covariates={"age_years": made.age_years},
        time_days=days,
        event=event,
        log_hazard=made.log_hazard,
    )


def _name(split: str, index: int) -> str:
    """Return a sample's name; it tells the seed, so that a moved split is not read from an old cache."""
    return f"{split}-{SPLIT_OFFSET[split] + index:07d}"


def _store(settings: Settings, folder: Path, task: tuple[str, int]) -> Path:
    split, index = task
    path = folder / f"{_name(split, index)}.npz"
    return path if path.exists() else make(settings, split, index).save(folder)


def cache(settings: Settings) -> dict[str, list[Path]]:
    """Make every phantom sample of the run that is not cached yet; return paths by split."""
    folder = settings.build / "samples"
    counts = {"train": settings.data.train, "tune": settings.data.tune, "test": settings.data.test}
    tasks = [(split, index) for split, count in counts.items() for index in range(count)]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")
    with ProcessPoolExecutor(max_workers=os.cpu_count(), mp_context=get_context("spawn")) as pool:
        made = pool.map(partial(_store, settings, folder), tasks, chunksize=4)
        paths = list(track(made, total=len(tasks), description="phantoms"))
    return {split: [p for p, task in zip(paths, tasks, strict=True) if task[0] == split] for split in counts}
