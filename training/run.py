"""One run from settings to a sealed bundle."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from daemon.imaging.steps import neighbour_stack
from training.calibrate import Case, Scores, fit, read_cases, score
from training.curriculum.stages import train
from training.curriculum.store import Cohort
from training.data import real_brain, real_petct
from training.data.sample import Sample
from training.data.synthetic import cache
from training.export import export
from training.seal import Contents, seal, unsealed
from training.settings import Settings

HELD_OUT = {
    "petct": "held-out real PET/CT, cropped round the tumour",
    "brain": "real heads with a lesion",
}
# Real patients are few beside the phantoms; each counts this often.
REAL_WEIGHT = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Splits:
    """Samples by use; `held_out` are real patients that training never sees."""

    train: list[Sample]
    tune: list[Sample]
    test: list[Sample]
    real: list[Sample]
    held_out: list[Sample]


def run(settings: Settings, models: Path) -> Path:
    """Make samples, train, export, calibrate, measure and seal; return the bundle's folder."""
    splits = gather(settings)
    net = train(settings, Cohort(train=[*splits.train, *splits.real * REAL_WEIGHT], tune=splits.tune), settings.build)
    exported = export(net, _calibration_stacks(settings, splits.train), settings.build)
    model = unsealed(settings, exported.shipped, settings.build / "unsealed")
    spacing = settings.recipe.spacing
    tune = read_cases(model, splits.tune, spacing, "calibrate")
    calibration = fit(tune, tune, settings.bundle.min_lesion_ml)
    tested: dict[str, Sequence[Case]] = {"unseen synthetic studies": read_cases(model, splits.test, spacing, "test")}
    fp32 = unsealed(settings, exported.fp32, settings.build / "unsealed-fp32")
    tested["the same, FP32 graphs"] = read_cases(fp32, splits.test, spacing, "test FP32")
    if splits.held_out:
        tested[HELD_OUT[settings.data.kind]] = read_cases(model, splits.held_out, spacing, "held out")
    scores = {name: score(cases, calibration) for name, cases in tested.items()}
    _keep(settings, scores, tested)
    example = _example(settings, splits.tune)
    return seal(settings, Contents(exported=exported, calibration=calibration, scores=scores, example=example), models)


def gather(settings: Settings) -> Splits:
    """Return all samples of a run.

    Raises:
        ValueError: a held-out patient is not in `real_root`, so its absence would go unnoticed.
    """
    paths = cache(settings)
    phantoms = {split: [Sample.load(path) for path in found] for split, found in paths.items()}
    root = Path(settings.data.real_root)
    if settings.data.real_root and not root.is_dir():
        Console(stderr=True).print(f"no real data at {root}: going on with phantoms alone")
    if settings.data.kind == "brain":
        heads = real_brain.read(root, settings.recipe) if settings.data.real_root else []
        return Splits(**phantoms, real=[], held_out=heads)
    patients = real_petct.patients(root) if settings.data.real_root else []
    held = set(settings.data.real_held_out)
    unknown = held - {p.name for p in patients}
    if patients and unknown:
        raise ValueError(f"held-out patients {sorted(unknown)} are not in {settings.data.real_root}; correct the list")
    read = {p.name: real_petct.read(p, settings.recipe) for p in patients}
    return Splits(
        **phantoms,
        real=[s for name, s in read.items() if name not in held],
        held_out=[s for name, s in read.items() if name in held],
    )


def _calibration_stacks(settings: Settings, samples: Sequence[Sample]) -> list[NDArray[np.float32]]:
    """Return input stacks that show activations their range: tumour slices and others of some studies."""
    rng = np.random.Generator(np.random.Philox(settings.seed + 5))
    stacks = []
    for sample in samples[:24]:
        marked = np.zeros(0) if sample.mask is None else np.flatnonzero(sample.mask.any(axis=(1, 2)))
        chosen = rng.choice(marked, 2) if marked.size else rng.integers(0, sample.image.shape[1], 2)
        others = rng.integers(0, sample.image.shape[1], 2)
        stacks.append(_stack(settings, sample, np.concatenate((chosen, others))))
    return stacks


def _example(settings: Settings, samples: Sequence[Sample]) -> NDArray[np.float32]:
    """Return a small tumour-bearing input for the golden outputs."""
    sample = next(s for s in samples if s.tumour and s.mask is not None)
    marked = np.flatnonzero(np.zeros(0) if sample.mask is None else sample.mask.any(axis=(1, 2)))
    middle = int(marked[len(marked) // 2])
    stack = _stack(settings, sample, np.arange(middle - 1, middle + 2))
    return np.ascontiguousarray(stack[:, :, : stack.shape[2] // 32 * 16, : stack.shape[3] // 32 * 16])


def _stack(settings: Settings, sample: Sample, indices: NDArray[np.int64]) -> NDArray[np.float32]:
    inside = np.clip(indices, 0, sample.image.shape[1] - 1)
    return neighbour_stack(sample.image.astype(np.float32), settings.recipe, inside)


def _keep(settings: Settings, scores: dict[str, Scores], tested: dict[str, Sequence[Case]]) -> None:
    document = {
        "scores": {name: asdict(s) for name, s in scores.items()},
        "cases": {
            name: [
                {"name": c.sample.name, "tumour": c.sample.tumour, "logit": c.logit, "risk": c.risk, "dice": c.dice}
                for c in cases
            ]
            for name, cases in tested.items()
        },
    }
    (settings.build / "scores.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
