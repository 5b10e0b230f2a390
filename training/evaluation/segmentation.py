"""Outlines of a set of studies against their masks."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from training.evaluation.bootstrap import Bootstrap, Numbers, numbers
from training.evaluation.cases import Case
from training.evaluation.values import Measure, Segmentation, Spread

NO_MASK = "no study with a tumour has a mask"
NO_MASK_AT_ALL = "no study has a mask"


def segmentation(cases: Sequence[Case], bootstrap: Bootstrap) -> Segmentation:
    """Return all outline scores of `cases`, whose resamples `bootstrap` holds."""
    bearing = marked(cases)
    overlaps = ("dice", "iou", "hd95_mm", "surface_dice", "boundary_f")
    error = scores(cases, "outlined_ml") - scores(cases, "true_ml")
    relative = np.divide(error, scores(cases, "true_ml"), out=np.full(len(cases), np.nan), where=bearing)
    neither = "no study has a mask or an outline in it"
    return Segmentation(
        **{name: over_tumours(cases, name, bootstrap) for name in overlaps},
        relative_volume_error=bootstrap.spread(relative, NO_MASK),
        dice_any=bootstrap.spread(scores(cases, "dice"), neither),
        hd95_any_mm=bootstrap.spread(scores(cases, "hd95_mm"), neither),
        volume_error_ml=bootstrap.spread(error, NO_MASK_AT_ALL),
        absolute_volume_error_ml=bootstrap.spread(np.abs(error), NO_MASK_AT_ALL),
        false_negative_ml=bootstrap.spread(scores(cases, "false_negative_ml"), NO_MASK_AT_ALL),
        false_positive_ml=bootstrap.spread(scores(cases, "false_positive_ml"), NO_MASK_AT_ALL),
        lesion_sensitivity=lesions(cases, bootstrap, _sensitivity),
        lesion_precision=lesions(cases, bootstrap, _precision),
        lesion_f1=lesions(cases, bootstrap, f1),
        missed_studies=bootstrap.share(scores(cases, "outlined_ml") == 0, bearing, NO_MASK),
        false_alarm_studies=bootstrap.share(
            scores(cases, "outlined_ml") > 0, scores(cases, "true_ml") == 0, "every mask holds a tumour"
        ),
    )


def over_tumours(cases: Sequence[Case], name: str, bootstrap: Bootstrap) -> Spread:
    """Return one of the overlap scores over the studies with a tumour in their mask."""
    return bootstrap.spread(np.where(marked(cases), scores(cases, name), np.nan), NO_MASK)


def scores(cases: Sequence[Case], name: str) -> Numbers:
    """Return one of the overlap scores (studies,), NaN where there is none."""
    return numbers([None if c.overlap is None else getattr(c.overlap, name) for c in cases])


def marked(cases: Sequence[Case]) -> NDArray[np.bool_]:
    """Return which studies have a tumour in their mask."""
    return np.asarray(scores(cases, "true_ml") > 0)


def lesions(cases: Sequence[Case], bootstrap: Bootstrap, rate: Callable[[Numbers], float]) -> Measure:
    """Return a rate of lesions pooled over studies; `rate` takes (true, found, outlined, right) counts."""
    columns = ("true_lesions", "found_lesions", "outlined_lesions", "right_lesions")
    counts = np.stack([scores(cases, name) for name in columns])
    known = np.isfinite(counts[0])
    return bootstrap.measure(
        lambda i: rate(counts[:, i].sum(axis=1)), known, "no mask holds a lesion, or nothing is outlined"
    )


def _sensitivity(counts: Numbers) -> float:
    return float(counts[1] / counts[0]) if counts[0] else float("nan")


def _precision(counts: Numbers) -> float:
    return float(counts[3] / counts[2]) if counts[2] else float("nan")


def f1(counts: Numbers) -> float:
    """Return the harmonic mean of lesion sensitivity and precision; NaN without a lesion in any mask."""
    if not counts[0]:
        return float("nan")
    parts = [0.0 if np.isnan(part) else part for part in (_sensitivity(counts), _precision(counts))]
    return 2 * parts[0] * parts[1] / sum(parts) if sum(parts) else 0.0
