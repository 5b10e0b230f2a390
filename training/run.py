"""One run from settings to a sealed bundle."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from training.bundling import calibrate_run, export_run, predict_set, seal_run
from training.curriculum.stages import train
from training.curriculum.store import Cohort
from training.data.readers import Request, find
from training.data.readers.study import read
from training.data.sample import Sample
from training.data.synthetic import cache
from training.seal import manifest
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
    splits, here = gather(settings), settings.build
    net = train(settings, Cohort(train=[*splits.train, *splits.real * REAL_WEIGHT], tune=splits.tune), here)
    exported = export_run(settings, net, splits.train, here)
    fitted = calibrate_run(settings, exported, splits.tune, here)
    sets = {"unseen synthetic studies": splits.test}
    if splits.held_out:
        sets[HELD_OUT[settings.data.kind]] = splits.held_out
    measured = {}
    for kind, graphs in (("", exported.shipped), (", FP32 graphs", exported.fp32)):
        for name, samples in sets.items():
            folder = here / "predictions" / f"{name}{kind}".replace(" ", "-").replace(",", "").replace("/", "-")
            measured[f"{name}{kind}"] = predict_set(settings, graphs, samples, folder, fitted.calibration)
    used = {"training": [*splits.train, *splits.real], "calibration": splits.tune}
    return seal_run(settings, here, used, measured, models)


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
