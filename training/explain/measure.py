"""How well a map explains: does it point at the tumour, and how much of it lies inside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, zoom
from scipy.stats import binomtest, bootstrap

from daemon.inference.mc_dropout import CELL
from training.predictions import Prediction

Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]
# Half a cell of the shipped map is more: eight pixels, so 16 mm of the head's 2 mm and 32 mm of the body's 4 mm.
TOLERANCE_MM = 8.0


@dataclass(frozen=True, kw_only=True)
class Score:
    """One map of one tumour slice.

    `pointing` 1 where the map's highest pixel (of equal ones, most) lies in the tumour (Zhang et al. 2018), `near`
    where it lies within TOLERANCE_MM of it; `energy` the share of the map's sum inside the tumour (Wang et al. 2020),
    `gain` that share over the tumour's share of the slice: 1 is what an even map gets.
    """

    pointing: float
    near: float
    energy: float
    gain: float


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A kind of map over `slices` tumour slices: means with their 95 % intervals (Wilson; bootstrap)."""

    slices: int
    pointing: float
    pointing_interval: tuple[float, float]
    near: float
    energy: float
    energy_interval: tuple[float, float]
    gain: float


def score(values: Plane, tumour: Mask, spacing: tuple[float, float]) -> Score:
    """Score a map (rows, columns) >= 0 against the tumour in its slice; `spacing` (row, column) in mm.

    A map without a positive value points nowhere and scores 0.

    Raises:
        ValueError: the slice has no tumour, or the shapes differ.
    """
    if values.shape != tumour.shape or not tumour.any():
        raise ValueError(f"a map {values.shape} cannot be scored against a tumour of {tumour.shape} that may be empty")
    total = float(values.sum(dtype=np.float64))
    if total <= 0:
        return Score(pointing=0.0, near=0.0, energy=0.0, gain=0.0)
    peak = values == values.max()
    away = distance_transform_edt(~tumour, sampling=spacing)
    energy = float(values[tumour].sum(dtype=np.float64)) / total
    return Score(
        pointing=float(tumour[peak].mean() > 0.5),
        near=float(np.median(away[peak]) <= TOLERANCE_MM),
        energy=energy,
        gain=energy / float(tumour.mean()),
    )


def summarise(scores: Mapping[str, Sequence[Score]], seed: int) -> dict[str, Measure]:
    """Return every map's means and intervals; kinds without a score are left out."""
    return {kind: _summary(found, seed) for kind, found in scores.items() if found}


def _summary(scores: Sequence[Score], seed: int) -> Measure:
    hits = [s.pointing for s in scores]
    share = binomtest(int(sum(hits)), len(hits)).proportion_ci(method="wilson")
    energy = np.array([s.energy for s in scores])
    return Measure(
        slices=len(scores),
        pointing=float(np.mean(hits)),
        pointing_interval=(float(share.low), float(share.high)),
        near=float(np.mean([s.near for s in scores])),
        energy=float(energy.mean()),
        energy_interval=_interval(energy, seed),
        gain=float(np.mean([s.gain for s in scores])),
    )


def _interval(values: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """Return the mean's interval; one slice tells of no other, so that it may be any share."""
    if values.size == 1:
        return 0.0, 1.0
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    rng = np.random.Generator(np.random.Philox(seed))
    drawn = bootstrap((values,), np.mean, n_resamples=2000, method="percentile", rng=rng).confidence_interval
    return float(drawn.low), float(drawn.high)


def exact_cam(prediction: Prediction, at: int) -> Plane:
    """Return the shipped bundle's own map of slice `at`: the tumour probability of every cell, on the sample's grid.

    The map is the detector's last convolution, so that the tumour score is its maximum, with nothing approximated
    (Zhou et al. 2016).
    """
    cells = prediction.cam[at].astype(np.float32)
    probability = 0.5 + 0.5 * np.tanh(0.5 * cells)
    rows, columns = prediction.probability.shape[1:]
    # Cells are squares of pixels, so the smooth map must keep their centres (grid_mode) rather than their corners.
    large = zoom(probability, CELL, order=1, mode="nearest", grid_mode=True)
    return np.asarray(large[:rows, :columns], dtype=np.float32)
