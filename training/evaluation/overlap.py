"""One study's outline against its mask."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.meandice import compute_dice
from monai.metrics.meaniou import compute_iou
from monai.metrics.surface_dice import compute_surface_dice
from monai.metrics.utils import get_edge_surface_distance
from numpy.typing import NDArray
from scipy import ndimage

from training.evaluation.values import Overlap

Mask = NDArray[np.bool_]
_TOUCHING = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True, kw_only=True)
class Ruler:
    """Spacing (slice, row, column) in mm and the distance within which two surfaces count as the same."""

    spacing: tuple[float, float, float]
    tolerance_mm: float

    @property
    def voxel_ml(self) -> float:
        """Return a voxel's volume."""
        return float(np.prod(self.spacing)) / 1000


def overlap(outline: Mask, truth: Mask, ruler: Ruler) -> Overlap:
    """Return all scores of `outline` against `truth`, both (slices, rows, columns).

    A miss or a false alarm scores 0, and the image diagonal in mm as HD95, where MONAI gives NaN and so would drop
    exactly the worst studies from a mean.

    Args:
        outline: what the model marked.
        truth: what is there.
        ruler: lengths.
    """
    found, outlined = _meeting(truth, outline, ruler), _meeting(outline, truth, ruler)
    marked = [bool(outline.any()), bool(truth.any())]
    scores: dict[str, float | None] = dict.fromkeys(("dice", "iou", "hd95_mm", "surface_dice", "boundary_f"))
    if any(marked):
        scores |= {"dice": 0.0, "iou": 0.0, "surface_dice": 0.0, "boundary_f": 0.0}
        scores["hd95_mm"] = float(np.linalg.norm(np.multiply(truth.shape, ruler.spacing)))
    if all(marked):
        with warnings.catch_warnings():
            # MONAI 1.6 calls its own surface function with an argument that it deprecates.
            warnings.simplefilter("ignore", FutureWarning)
            scores |= _both(outline, truth, ruler)
    return Overlap(
        **scores,
        true_ml=int(truth.sum()) * ruler.voxel_ml,
        outlined_ml=int(outline.sum()) * ruler.voxel_ml,
        false_negative_ml=found.apart_ml,
        false_positive_ml=outlined.apart_ml,
        true_lesions=found.count,
        found_lesions=found.met,
        outlined_lesions=outlined.count,
        right_lesions=outlined.met,
    )


def _both(outline: Mask, truth: Mask, ruler: Ruler) -> dict[str, float | None]:
    pair = [torch.from_numpy(mask)[None, None].float() for mask in _cropped(outline, truth)]
    lengths = {"include_background": True, "spacing": list(ruler.spacing)}
    return {
        "dice": float(compute_dice(*pair)),
        "iou": float(compute_iou(*pair)),
        "hd95_mm": float(compute_hausdorff_distance(*pair, percentile=95, **lengths)),
        "surface_dice": float(compute_surface_dice(*pair, class_thresholds=[ruler.tolerance_mm], **lengths)),
        "boundary_f": _boundary_f([mask[0, 0].bool() for mask in pair], ruler),
    }


def _cropped(outline: Mask, truth: Mask) -> tuple[Mask, Mask]:
    """Return both masks cut to what is marked in either, with one empty voxel round it so that no surface is cut."""
    (box,) = ndimage.find_objects((outline | truth).astype(np.uint8))
    return np.pad(outline[box], 1), np.pad(truth[box], 1)


def _boundary_f(pair: Sequence[torch.Tensor], ruler: Ruler) -> float:
    """Return the harmonic mean of the shares of either surface within the tolerance of the other (Csurka 2013)."""
    _, distances, _ = get_edge_surface_distance(*pair, spacing=list(ruler.spacing), symmetric=True)
    precision, recall = (float((d <= ruler.tolerance_mm).float().mean()) for d in distances)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@dataclass(frozen=True, kw_only=True)
class _Met:
    """How many lesions of one mask there are, how many meet the other mask, and the volume of those that do not."""

    count: int
    met: int
    apart_ml: float


def _meeting(mask: Mask, other: Mask, ruler: Ruler) -> _Met:
    labels, count = ndimage.label(mask, structure=_TOUCHING)
    numbers = np.arange(1, count + 1)
    met = np.isin(numbers, labels[other & mask])
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    return _Met(count=int(count), met=int(met.sum()), apart_ml=float(sizes[~met].sum()) * ruler.voxel_ml)
