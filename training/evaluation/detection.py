"""Tumour or none, per study."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score

from training.evaluation.bootstrap import Bootstrap, Indices, Numbers, numbers
from training.evaluation.cases import Case
from training.evaluation.values import Confusion, Detection, Measure

NO_LABEL = "no study is labelled as with or without tumour"
NO_TUMOUR = "no study with a tumour is among them"
NO_NORMAL = "no study without a tumour is among them"


def detection(cases: Sequence[Case], threshold: float, bootstrap: Bootstrap) -> Detection:
    """Return all scores at `threshold` and the areas under both curves."""
    label, probability = labels(cases), probabilities(cases)
    known, tumour, normal = np.isfinite(label), label == 1, label == 0
    found = probability >= threshold
    counts = Confusion(
        true_positive=int((found & tumour).sum()),
        false_positive=int((found & normal).sum()),
        true_negative=int((~found & normal).sum()),
        false_negative=int((~found & tumour).sum()),
    )

    def harmonic(i: Indices) -> float:
        right, wrong = (found & tumour)[i].sum(), (found != tumour)[i].sum()
        return float(2 * right / (2 * right + wrong)) if right + wrong else float("nan")

    return Detection(
        confusion=counts,
        accuracy=bootstrap.share(found == tumour, known, NO_LABEL),
        precision=bootstrap.share(tumour, found & known, "no labelled study was called a tumour"),
        recall=recall(cases, threshold, bootstrap),
        specificity=specificity(cases, threshold, bootstrap),
        f1=bootstrap.measure(harmonic, known, "no study has a tumour and none was called one"),
        roc_auc=roc_auc(cases, bootstrap),
        pr_auc=bootstrap.measure(lambda i: _pr_auc(tumour[i], probability[i]), known, _why(label)),
    )


def recall(cases: Sequence[Case], threshold: float, bootstrap: Bootstrap) -> Measure:
    """Return the share of tumours that were called one (sensitivity)."""
    return bootstrap.share(probabilities(cases) >= threshold, labels(cases) == 1, NO_TUMOUR)


def specificity(cases: Sequence[Case], threshold: float, bootstrap: Bootstrap) -> Measure:
    """Return the share of tumour-free studies that were not called a tumour."""
    return bootstrap.share(probabilities(cases) < threshold, labels(cases) == 0, NO_NORMAL)


def roc_auc(cases: Sequence[Case], bootstrap: Bootstrap) -> Measure:
    """Return the area under the ROC curve."""
    label, probability = labels(cases), probabilities(cases)
    return bootstrap.measure(lambda i: auroc(label[i] == 1, probability[i]), np.isfinite(label), _why(label))


def auroc(positive: NDArray[np.bool_], score: Numbers) -> float:
    """Return the probability that a positive scores above a negative, ties half (Hanley and McNeil 1982).

    From ranks, since thousands of resamples need it; NaN where one of both is empty.
    """
    count = int(positive.sum())
    others = positive.size - count
    if not count or not others:
        return float("nan")
    return float((rankdata(score)[positive].sum() - count * (count + 1) / 2) / (count * others))


def labels(cases: Sequence[Case]) -> Numbers:
    """Return 1 tumour, 0 none, NaN where nobody said (studies,)."""
    return numbers([c.tumour for c in cases])


def probabilities(cases: Sequence[Case]) -> Numbers:
    """Return the calibrated tumour probabilities (studies,)."""
    return np.array([c.probability for c in cases], dtype=np.float64)


def _pr_auc(tumour: NDArray[np.bool_], probability: Numbers) -> float:
    """Return the average precision; undefined, like the ROC's area, where one class is absent."""
    if tumour.all() or not tumour.any():
        return float("nan")
    return float(average_precision_score(tumour, probability))


def _why(label: Numbers) -> str:
    if not np.isfinite(label).any():
        return NO_LABEL
    return NO_NORMAL if not (label == 0).any() else NO_TUMOUR
