"""What a model says of prepared samples, kept beside the truth: the input of every evaluation."""

import hashlib
import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from daemon.domain.model_bundle import Calibration
from daemon.imaging.steps import Prepared
from daemon.imaging.volume import Grid
from daemon.inference.mc_dropout import infer
from daemon.inference.session import Model
from training.data.sample import Sample, npz_files

Maps = NDArray[np.float16]
# What mends predictions that another calibration scaled, where a calibrated model is measured.
RESCALE = "predict that set with the bundle, or the run with --calibrated"


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """One study as a model sees it.

    `probability`, `entropy` (predictive, nats) and `mutual_information` are (slices, rows, columns) on the sample's
    grid; `cam` holds activation map logits at 1/16; `tumour_logits` and `risks` one number per MC-dropout pass,
    uncalibrated; `embedding` (d,) the daemon's description of the study. `truth` is the sample's mask; `made_of` tells
    model and sample from any other; `voxel_slope` and `voxel_intercept` are those of the calibration that scaled the
    maps, None in files of an earlier version; the other fields are the sample's own.
    """

    name: str
    probability: Maps
    entropy: Maps
    mutual_information: Maps
    cam: Maps
    tumour_logits: NDArray[np.float64]
    risks: NDArray[np.float64]
    truth: NDArray[np.uint8] | None
    source: str
    tumour: int | None
    spacing: tuple[float, float, float]
    patient: str
    strata: tuple[str, ...]
    time_days: float | None
    event: int | None
    covariates: dict[str, float]
    log_hazard: float | None
    embedding: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    made_of: str = ""
    voxel_slope: float | None = None
    voxel_intercept: float | None = None

    @property
    def voxel_ml(self) -> float:
        """Return a voxel's volume."""
        return float(np.prod(self.spacing)) / 1000

    def save(self, folder: Path) -> Path:
        """Write the prediction as one compressed file, whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.npz"
        partial = path.with_suffix(".part.npz")
        arrays = {name: getattr(self, name) for name in (*_ARRAYS, *_VECTORS)}
        truth = np.zeros(0, np.uint8) if self.truth is None else self.truth
        facts = json.dumps({name: getattr(self, name) for name in (*_FACTS, *_SCALE, "made_of")})
        np.savez_compressed(partial, **arrays, truth=truth, facts=facts)
        partial.rename(path)
        return path

    @classmethod
    def load(cls, path: Path) -> "Prediction":
        """Read a prediction back."""
        with np.load(path) as stored:
            arrays: dict[str, Any] = {name: stored[name] for name in (*_ARRAYS, *_VECTORS) if name in stored}
            facts = json.loads(str(stored["facts"]))
            truth = stored["truth"]
        facts |= {"spacing": tuple(facts["spacing"]), "strata": tuple(facts["strata"])}
        return cls(name=path.stem, truth=truth if truth.size else None, **arrays, **facts)


def facts_of(path: Path) -> dict[str, Any]:
    """Return what a prediction file says of its sample, without reading the maps."""
    with np.load(path) as stored:
        facts: dict[str, Any] = json.loads(str(stored["facts"]))
    return facts


def demand_scale(paths: Iterable[Path], calibration: Calibration, mend: str) -> None:
    """Let predictions pass whose voxels were scaled as `calibration` scales them.

    Raises:
        ValueError: others are among them, and `mend` says what to do; or a file does not tell.
    """
    wanted = tuple(getattr(calibration, name) for name in _SCALE)
    for path in paths:
        facts = facts_of(path)
        kept = tuple(facts.get(name) for name in _SCALE)
        if None in kept:
            raise ValueError(
                f"{path} does not say how its voxels were scaled, since an earlier version wrote it; predict that set "
                "again"
            )
        if kept != wanted:
            said, other = (f"slope {slope} and intercept {intercept}" for slope, intercept in (kept, wanted))
            raise ValueError(f"the voxels of {path} were scaled by {said}, not by {other}; {mend}")


_ARRAYS = ("probability", "entropy", "mutual_information", "cam")
_VECTORS = ("tumour_logits", "risks", "embedding")
_SCALE = ("voxel_slope", "voxel_intercept")
_FACTS = ("source", "tumour", "spacing", "patient", "strata", "time_days", "event", "covariates", "log_hazard")


def predict(model: Model, samples: Iterable[Sample], folder: Path, note: str = "predict") -> list[Path]:
    """Read samples with `model` through the daemon's own inference, and leave what it says in `folder`.

    What is there of the same model and the same sample is kept, so that a run that was stopped goes on; predictions of
    other samples leave, and those that do not say how their voxels were scaled are made anew.

    Args:
        model: a loaded bundle, sealed or not.
        samples: prepared by the bundle's recipe.
        folder: gets one file a sample.
        note: what the progress bar says.

    Raises:
        ValueError: `folder` holds files that are no predictions.
    """
    there = {path: _made_of(path) for path in npz_files(folder)}
    paths, maker = [], f"{model.bundle.ref.digest} {model.manifest}"
    for sample in track(list(samples), description=note):
        made_of = hashlib.sha256(f"{maker} {sample.digest()} {json.dumps(sample.facts())}".encode()).hexdigest()
        path = folder / f"{sample.name}.npz"
        paths.append(path if there.get(path) == made_of else _predict(model, sample, made_of).save(folder))
    for path in there.keys() - paths:
        path.unlink()
    return paths


def _made_of(path: Path) -> str:
    try:
        with np.load(path) as stored:
            facts = json.loads(str(stored["facts"])) if "tumour_logits" in stored else None
    except (KeyError, OSError, ValueError, zipfile.BadZipFile):
        facts = None
    if facts is None:
        raise ValueError(f"{path} is no prediction; give predictions a folder of their own")
    return str(facts.get("made_of", "")) if facts.keys() >= {*_SCALE} else ""


def load_all(folder: Path) -> list[Prediction]:
    """Return all predictions of a folder, by name.

    Raises:
        FileNotFoundError: it holds none.
    """
    paths = npz_files(folder)
    if not paths:
        raise FileNotFoundError(f"no predictions in {folder}; run the prediction of that set first")
    return [Prediction.load(path) for path in paths]


def _predict(model: Model, sample: Sample, made_of: str) -> Prediction:
    recipe = model.manifest.recipe
    padded = _to_multiple(sample.image.astype(np.float32), recipe.multiple)
    # A single slice stands in its neighbours' place too, as in the daemon's `read_picture`; the middle one is kept.
    copies = recipe.neighbours if padded.shape[1] == 1 else 1
    padded = np.repeat(padded, copies, axis=1)
    shown = slice(copies // 2, copies // 2 + sample.image.shape[1])
    size = (padded.shape[1], padded.shape[2], padded.shape[3])
    grid = Grid(size=size, spacing=sample.spacing, origin=(0.0, 0.0, 0.0))
    raw = infer(model, Prepared(array=padded, grid=grid), sample.name)
    rows, columns = sample.image.shape[2:]
    facts = {name: getattr(sample, name) for name in _FACTS} | {"covariates": dict(sample.covariates)}
    maps = {name: getattr(raw, name)[shown, :rows, :columns].astype(np.float16) for name in _ARRAYS if name != "cam"}
    return Prediction(
        name=sample.name,
        **maps,
        cam=raw.cam[shown].astype(np.float16),
        tumour_logits=np.array(raw.tumour_logits),
        risks=np.array(raw.risks),
        embedding=raw.embedding,
        truth=sample.mask,
        made_of=made_of,
        **{name: getattr(model.manifest.calibration, name) for name in _SCALE},
        **facts,
    )


def _to_multiple(array: NDArray[np.float32], multiple: int) -> NDArray[np.float32]:
    short = [-n % multiple for n in array.shape[-2:]]
    return np.pad(array, [(0, 0), (0, 0), (0, short[0]), (0, short[1])], constant_values=float(array.min()))
