"""Predictions reduced to what calibration needs, one file in memory at a time."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from daemon.domain.model_bundle import Calibration
from daemon.imaging.lesions import Maps, measure
from daemon.imaging.volume import Grid
from daemon.inference.mc_dropout import binary_entropy, calibrated
from training.data.sample import npz_files
from training.predictions import Prediction, facts_of

Numbers = NDArray[np.float64]
# Mask thresholds that are compared, and voxels that can carry a doubt.
MASK_GRID = np.round(np.arange(0.02, 0.99, 0.02), 2)
CONCEIVABLE = 0.01
_VOXELS_A_STUDY = 4000
_FEWEST_CHOOSING = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One study's numbers; `logits` and `risk` uncalibrated, `risk` the mean over passes.

    `dice` and `missed` (share of tumour voxels below) go along MASK_GRID, None without a tumour in the truth.
    `outlined_ml`, `true_ml`, `entropy` and `overlap` are at the mask threshold once it is known, NaN without a truth.
    `entropy` is the daemon's score, over specks too that are no lesions.
    """

    name: str
    patient: str
    tumour: int | None
    logits: Numbers
    risk: float
    time_days: float | None
    event: int | None
    log_hazard: float | None
    embedding: NDArray[np.float32]
    dice: Numbers | None = None
    missed: Numbers | None = None
    outlined_ml: float = float("nan")
    true_ml: float = float("nan")
    entropy: float = float("nan")
    overlap: float = float("nan")


def paths_in(folder: Path) -> list[Path]:
    """Return the prediction files of a folder, by name.

    Raises:
        FileNotFoundError: it holds none.
    """
    paths = npz_files(folder)
    if not paths:
        raise FileNotFoundError(f"no predictions in {folder}; run the prediction of that set first")
    return paths


def chosen(paths: Sequence[Path], share: float) -> tuple[list[Path], list[Path]]:
    """Part the studies by patient into those that choose (`share`) and those that test; a patient is never in both.

    Where too few choose (five studies with tumour and five without) or no tumour tests, all studies are in both.
    """
    facts = [facts_of(path) for path in paths]
    first = [_place(fact["patient"] or path.stem) < share for path, fact in zip(paths, facts, strict=True)]
    labels = [fact["tumour"] for fact in facts]
    choosing = Counter(label for label, early in zip(labels, first, strict=True) if early)
    testing = Counter(label for label, early in zip(labels, first, strict=True) if not early)
    if min(choosing[0], choosing[1]) < _FEWEST_CHOOSING or not testing[1]:
        return list(paths), list(paths)
    pairs = list(zip(paths, first, strict=True))
    return [p for p, early in pairs if early], [p for p, early in pairs if not early]


def _place(patient: str) -> float:
    """Return a number in 0..1 that a patient always has."""
    return int.from_bytes(hashlib.sha256(patient.encode()).digest()[:6]) / 2**48


def voxels(paths: Sequence[Path]) -> tuple[Numbers, NDArray[np.uint8]]:
    """Return probabilities and truths of random conceivable voxels of the studies with a mask."""
    found: list[tuple[Numbers, NDArray[np.uint8]]] = [(np.zeros(0), np.zeros(0, np.uint8))]
    for index, read in enumerate(_read(paths, "voxels")):
        if read.truth is None:
            continue
        where = np.flatnonzero(read.probability.ravel() >= CONCEIVABLE)
        rng = np.random.Generator(np.random.Philox(index))
        drawn = rng.choice(where, min(len(where), _VOXELS_A_STUDY), replace=False)
        found.append((read.probability.ravel()[drawn].astype(np.float64), read.truth.ravel()[drawn]))
    return np.concatenate([p for p, _ in found]), np.concatenate([t for _, t in found])


def read_cases(paths: Sequence[Path], calibration: Calibration) -> list[Case]:
    """Return what the studies say at every mask threshold, their voxels calibrated."""
    return [_case(read, calibration) for read in _read(paths, "outlines")]


def at_threshold(cases: Sequence[Case], paths: Sequence[Path], calibration: Calibration) -> list[Case]:
    """Return the cases with what their outlines at the calibration's mask threshold measure, by the daemon's code."""
    pairs = zip(cases, _read(paths, "volumes"), strict=True)
    return [case if read.truth is None else _outlined(case, read, calibration) for case, read in pairs]


def _read(paths: Sequence[Path], note: str) -> Iterator[Prediction]:
    for path in track(paths, description=note):
        yield Prediction.load(path)


def _case(read: Prediction, calibration: Calibration) -> Case:
    dice = missed = None
    if read.truth is not None and read.truth.any():
        probability = _map(read, calibration)
        above, hit = (_counts(part) for part in (probability, probability[read.truth > 0]))
        dice, missed = 2 * hit / (above + read.truth.sum()), 1 - hit / read.truth.sum()
    return Case(
        name=read.name,
        patient=read.patient or read.name,
        tumour=read.tumour,
        logits=read.tumour_logits,
        risk=float(read.risks.mean()),
        time_days=read.time_days,
        event=read.event,
        log_hazard=read.log_hazard,
        embedding=read.embedding,
        dice=dice,
        missed=missed,
    )


def _map(read: Prediction, calibration: Calibration) -> NDArray[np.float32]:
    probability = read.probability.astype(np.float32)
    return calibrated(probability, np.zeros_like(probability), calibration)[0]


def _counts(values: NDArray[np.float32]) -> Numbers:
    """Return how many values are at or above each mask threshold."""
    place = np.searchsorted(MASK_GRID.astype(np.float32), values.ravel(), side="right")
    return np.asarray(np.bincount(place, minlength=len(MASK_GRID) + 1)[::-1].cumsum()[::-1][1:], dtype=np.float64)


def _outlined(case: Case, read: Prediction, calibration: Calibration) -> Case:
    probability = _map(read, calibration)
    size = (probability.shape[0], probability.shape[1], probability.shape[2])
    grid = Grid(size=size, spacing=read.spacing, origin=(0.0, 0.0, 0.0))
    maps = Maps(probability=probability, sd=np.zeros_like(probability))
    lesions, labels = measure(maps, grid, calibration.mask_threshold, calibration.min_lesion_ml)
    outlined, above = labels > 0, probability >= calibration.mask_threshold
    truth = read.truth > 0 if read.truth is not None else np.zeros_like(outlined)
    both = float(outlined.sum() + truth.sum())
    return replace(
        case,
        outlined_ml=float(sum(lesion.volume_ml for lesion in lesions)),
        true_ml=float(truth.sum()) * grid.voxel_ml,
        entropy=min(float(binary_entropy(probability[above]).mean() / np.log(2)), 1.0) if above.any() else 0.0,
        overlap=2 * float((outlined & truth).sum()) / both if both else float("nan"),
    )
