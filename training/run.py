"""One run from settings to a sealed bundle."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from daemon.imaging.steps import neighbour_stack
from training.calibration.figures import score
from training.calibration.fit import Fitted, fit
from training.calibration.store import save
from training.curriculum.stages import train
from training.curriculum.store import Cohort
from training.data.readers import Request, find
from training.data.readers.study import read
from training.data.sample import Sample
from training.data.synthetic import cache
from training.export import Exported, calibration_stacks, export
from training.predictions import predict
from training.provenance import origins, provenance
from training.seal import Contents, manifest, seal, unsealed
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
    exported = export(net, calibration_stacks(splits.train, settings.recipe, settings.seed + 5), settings.build)
    fitted = _calibrated(settings, exported, splits)
    sets = {"unseen synthetic studies": splits.test}
    if splits.held_out:
        sets[HELD_OUT[settings.data.kind]] = splits.held_out
    scores = {}
    for kind, graphs in (("", exported.shipped), (", FP32 graphs", exported.fp32)):
        for name, samples in sets.items():
            folder = settings.build / "predictions" / f"{name}{kind}".replace(" ", "-").replace(",", "")
            shutil.rmtree(folder, ignore_errors=True)
            model = unsealed(settings, graphs, settings.build / f"calibrated{kind[2:6]}", fitted.calibration)
            predict(model, samples, folder, f"{name}{kind}")
            scores[f"{name}{kind}"] = score(folder, fitted.calibration)
    (settings.build / "scores.json").write_text(json.dumps({n: asdict(s) for n, s in scores.items()}, indent=1))
    used = provenance(
        {"training": [*splits.train, *splits.real], "calibration": splits.tune}, origins(settings.sources)
    )
    contents = Contents(
        exported=exported, fitted=fitted, scores=scores, example=_example(settings, splits.tune), used=used
    )
    return seal(settings, contents, models)


def _calibrated(settings: Settings, exported: Exported, splits: Splits) -> Fitted:
    """Fit the calibration on the quantised graphs, and keep it."""
    folder = settings.build / "predictions" / "tune"
    predict(unsealed(settings, exported.shipped, settings.build / "unsealed"), splits.tune, folder, "calibrate")
    fitted = fit(folder, settings.calibration, settings.bundle.min_lesion_ml)
    save(fitted, settings.build / "calibration.toml")
    return fitted


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
    real = _real(settings, root) if settings.data.real_root and root.is_dir() else []
    if settings.data.kind == "brain":
        return Splits(**phantoms, real=[], held_out=real)
    held = set(settings.data.real_held_out)
    unknown = held - {sample.patient for sample in real}
    if real and unknown:
        raise ValueError(f"held-out patients {sorted(unknown)} are not in {settings.data.real_root}; correct the list")
    return Splits(
        **phantoms,
        real=[sample for sample in real if sample.patient not in held],
        held_out=[sample for sample in real if sample.patient in held],
    )


def _real(settings: Settings, root: Path) -> list[Sample]:
    source = "real head" if settings.data.kind == "brain" else "real STS"
    request = Request(manifest=manifest(settings), source=source)
    return [read(study, settings.recipe) for study in find("pairs", root, request)]


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
