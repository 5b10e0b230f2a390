"""What a calibrated bundle reaches on a set of studies: the card's table."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from lifelines.utils import concordance_index
from numpy.typing import NDArray

from daemon.domain.model_bundle import Calibration
from training.calibration.cases import Case, at_threshold, paths_in, read_cases
from training.calibration.scaling import Scale
from training.predictions import RESCALE, demand_scale


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Figures over one set of studies; Dice over those with a tumour. NaN where nothing can be measured."""

    studies: int
    dice_mean: float
    dice_median: float
    auc: float
    sensitivity: float
    specificity: float
    c_index: float
    c_index_oracle: float

    @property
    def c_index_share(self) -> float:
        """Return the C-index as a share of what the true hazard reaches."""
        return self.c_index / self.c_index_oracle


def score(folder: Path, calibration: Calibration) -> Scores:
    """Measure the predictions in `folder`, made by a model with this `calibration`.

    Raises:
        FileNotFoundError: there is no prediction.
        ValueError: the predictions were made with another calibration of the voxels.
    """
    paths = paths_in(folder)
    demand_scale(paths, calibration, RESCALE)
    # The model has scaled its voxels already.
    ready = replace(calibration, voxel_slope=1.0, voxel_intercept=0.0)
    cases = at_threshold(read_cases(paths, ready), paths, ready)
    labelled = [c for c in cases if c.tumour is not None]
    scale = Scale(slope=calibration.platt_slope, intercept=calibration.platt_intercept)
    probability = np.array([scale(c.logits[None])[0] for c in labelled])
    labels = np.array([c.tumour for c in labelled], dtype=int)
    found = probability >= calibration.threshold
    overlaps = np.array([c.overlap for c in cases if c.dice is not None])
    return Scores(
        studies=len(cases),
        dice_mean=float(overlaps.mean()) if overlaps.size else float("nan"),
        dice_median=float(np.median(overlaps)) if overlaps.size else float("nan"),
        auc=auc(probability, labels),
        sensitivity=float(found[labels == 1].mean()) if (labels == 1).any() else float("nan"),
        specificity=float((~found[labels == 0]).mean()) if (labels == 0).any() else float("nan"),
        c_index=_concordance(cases, [c.risk if calibration.survival_fitted else None for c in cases]),
        c_index_oracle=_concordance(cases, [c.log_hazard for c in cases]),
    )


def auc(probability: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the area under the ROC curve; ties count half."""
    if not labels.size or labels.min() == labels.max():
        return float("nan")
    return float(concordance_index(labels, probability))


def _concordance(cases: Sequence[Case], risks: Sequence[float | None]) -> float:
    known = [(c, r) for c, r in zip(cases, risks, strict=True) if c.time_days is not None and r is not None]
    if not any(c.event for c, _ in known):
        return float("nan")
    times, events = [c.time_days for c, _ in known], [c.event for c, _ in known]
    try:
        return float(concordance_index(times, [-r for _, r in known], events))
    except ZeroDivisionError:  # lifelines, of studies of which no two can be put in order
        return float("nan")
