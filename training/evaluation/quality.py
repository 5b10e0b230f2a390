"""Candidate scores of a study's doubt, and the voxel sums that calibration needs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.evaluation.values import Quality
from training.predictions import Prediction

Floats = NDArray[np.float64]
# Fine enough that merging them into bins of equal count is as good as sorting all voxels.
FINE_BINS = 960
MEANING = {
    "mean_entropy": "mean entropy of the outline (what the bundle ships)",
    "mutual_information": "total mutual information per outlined voxel",
    "entropy_per_outline": "total entropy per outlined voxel",
    "entropy_per_boundary": "total entropy per voxel of the outline's boundary",
    "volume_cv": "coefficient of variation of the volume",
    "expected_dice_loss": "1 - expected Dice of the outline",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Maps:
    """A study's maps as float64 (slices, rows, columns)."""

    probability: Floats
    entropy: Floats
    mutual_information: Floats

    @classmethod
    def of(cls, prediction: Prediction) -> "Maps":
        """Return a prediction's maps."""
        return cls(
            probability=prediction.probability.astype(np.float64),
            entropy=prediction.entropy.astype(np.float64),
            mutual_information=prediction.mutual_information.astype(np.float64),
        )


def quality(maps: Maps, outline: NDArray[np.bool_], mask_threshold: float) -> Quality:
    """Return every score of doubt.

    `mean_entropy` is the daemon's entropy score, over all voxels at or above `mask_threshold`, in units of ln 2, and
    like the daemon's 0 of an empty outline. The others divide by at least one voxel, so that an empty outline over a
    doubtful region scores high. The volume's standard deviation is the sum of the voxels' (a lesion's voxels move
    together), each from its mutual information: the variance over passes is 2 p (1 - p) MI to second order.
    Expected Dice is 2 sum(p o) / (sum(p) + sum(o)) with outline o, the Dice the probabilities themselves predict.
    """
    cut = maps.probability >= mask_threshold
    size = max(int(outline.sum()), 1)
    boundary = max(int((outline & ~ndimage.binary_erosion(outline)).sum()), 1)
    total = float(maps.entropy.sum())
    p = maps.probability
    deviation = np.sqrt(np.clip(2 * p * (1 - p) * maps.mutual_information, 0, None))
    expected = float(p.sum())
    overlap = 2 * float(p[outline].sum()) / max(expected + float(outline.sum()), np.finfo(float).tiny)
    return Quality(
        mean_entropy=float(min(maps.entropy[cut].mean() / np.log(2), 1.0)) if cut.any() else 0.0,
        mutual_information=float(maps.mutual_information.sum()) / size,
        entropy_per_outline=total / size,
        entropy_per_boundary=total / boundary,
        volume_cv=float(deviation.sum()) / max(expected, np.finfo(float).tiny) if expected else 0.0,
        expected_dice_loss=1 - min(overlap, 1.0) if expected else 0.0,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class VoxelSums:
    """Voxels by predicted probability: (3, FINE_BINS) of count, summed probability and tumour voxels.

    `conceivable` takes the voxels where the model found tumour conceivable, whatever is there (choosing by the truth
    would bias what is seen), `every` all. `entropy_error` runs over conceivable and marked voxels, so that a confident
    miss counts against it.
    """

    conceivable: Floats
    every: Floats
    entropy_error: float | None


def voxel_sums(maps: Maps, outline: NDArray[np.bool_], truth: NDArray[np.bool_], explore_threshold: float) -> VoxelSums:
    """Return what calibration and the entropy-error correlation need of a study.

    Args:
        maps: of the study.
        outline: what the model marked.
        truth: what is there.
        explore_threshold: from this probability a voxel's tumour is conceivable.
    """
    conceivable = maps.probability >= explore_threshold
    region = conceivable | truth
    return VoxelSums(
        conceivable=_sums(maps.probability[conceivable], truth[conceivable]),
        every=_sums(maps.probability.ravel(), truth.ravel()),
        entropy_error=_correlation(maps.entropy[region], (outline != truth)[region].astype(np.float64)),
    )


def _sums(probability: Floats, truth: NDArray[np.bool_]) -> Floats:
    index = np.minimum((probability * FINE_BINS).astype(np.int64), FINE_BINS - 1)
    weights = (None, probability, truth.astype(np.float64))
    return np.stack([np.bincount(index, w, FINE_BINS).astype(np.float64) for w in weights])


def _correlation(a: Floats, b: Floats) -> float | None:
    if a.size < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])
