"""Whether the model's doubt can be trusted: calibration, and finding poor outlines."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from training.evaluation.bootstrap import Bootstrap, Indices, Numbers, numbers
from training.evaluation.cases import Case
from training.evaluation.detection import NO_LABEL, auroc, labels, probabilities
from training.evaluation.quality import FINE_BINS, MEANING
from training.evaluation.segmentation import NO_MASK_AT_ALL, scores
from training.evaluation.values import Bin, Options, QualityRow, Reliability, Uncertainty

FAILURE_DICE = 0.6
STUDY_BINS = 10
VOXEL_BINS = 15
NO_OUTLINE = "no study has a mask with a tumour or an outline against an empty one"


def uncertainty(cases: Sequence[Case], bootstrap: Bootstrap, options: Options) -> Uncertainty:
    """Return calibration and failure detection of `cases`, whose resamples `bootstrap` holds."""
    label, probability = labels(cases), probabilities(cases)
    known = np.isfinite(label)
    masked = [c for c in cases if c.voxels is not None]
    voxels = [c.voxels for c in masked if c.voxels is not None]
    drawn = Bootstrap([c.patient for c in masked], options.resamples, options.seed)
    judged = [c for c in cases if c.overlap is not None and c.overlap.dice is not None]
    rows, failures = failure_rows(judged, options)
    study_sums = np.array([one_study(p, y) for p, y in zip(probability[known], label[known], strict=True)])
    study_draw = Bootstrap([c.patient for c in cases if c.tumour is not None], options.resamples, options.seed)
    return Uncertainty(
        study=reliability(study_sums, STUDY_BINS, study_draw, NO_LABEL),
        study_brier=bootstrap.measure(lambda i: float(np.mean((probability[i] - label[i]) ** 2)), known, NO_LABEL),
        voxel=reliability(np.array([v.conceivable for v in voxels]), VOXEL_BINS, drawn, NO_MASK_AT_ALL),
        all_voxels=reliability(np.array([v.every for v in voxels]), VOXEL_BINS, drawn, NO_MASK_AT_ALL),
        failures=failures,
        judged=len(judged),
        best=best(rows),
        scores=rows,
        entropy_error_correlation=bootstrap.spread(
            numbers([None if c.voxels is None else c.voxels.entropy_error for c in cases]),
            "no study with a mask has both right and wrong voxels where tumour was conceivable",
        ),
    )


def one_study(probability: float, label: float) -> Numbers:
    """Return one study as calibration sums, (3, FINE_BINS), so that studies and voxels are binned alike."""
    sums = np.zeros((3, FINE_BINS))
    sums[:, min(int(probability * FINE_BINS), FINE_BINS - 1)] = 1, probability, label
    return sums


def reliability(sums: Numbers, bins: int, bootstrap: Bootstrap, missing: str) -> Reliability:
    """Return the calibration of `sums` (studies, 3, FINE_BINS) in `bins` bins; `bins` divides FINE_BINS."""
    count = len(sums)
    flat = sums.reshape(count, 3 * FINE_BINS)

    def pooled(i: Indices) -> Numbers:
        return np.asarray((np.bincount(i, minlength=count) @ flat).reshape(3, FINE_BINS))

    everywhere = np.ones(count, dtype=bool)
    return Reliability(
        ece=bootstrap.measure(lambda i: _gap(equal_bins(pooled(i), bins)), everywhere, missing),
        adaptive_ece=bootstrap.measure(lambda i: _gap(equal_counts(pooled(i), bins)), everywhere, missing),
        bins=_diagram(equal_bins(sums.sum(axis=0), bins)) if count else (),
    )


def equal_bins(sums: Numbers, bins: int) -> Numbers:
    """Return (3, bins) sums over bins of equal width."""
    return np.asarray(sums.reshape(3, bins, -1).sum(axis=2))


def equal_counts(sums: Numbers, bins: int) -> Numbers:
    """Return (3, bins) sums over bins of as equal a count as the fine bins allow."""
    if not sums[0].any():
        return np.zeros((3, bins))
    middle = np.cumsum(sums[0]) - sums[0] / 2
    index = np.minimum((middle / sums[0].sum() * bins).astype(np.int64), bins - 1)
    return np.stack([np.bincount(index, row, bins) for row in sums])


def _gap(sums: Numbers) -> float:
    """Return the mean distance between said and seen: per bin |sum(p) - sum(y)|, over the total count."""
    total = float(sums[0].sum())
    return float(np.abs(sums[1] - sums[2]).sum()) / total if total else float("nan")


def _diagram(sums: Numbers) -> tuple[Bin, ...]:
    return tuple(
        Bin(count=int(n), predicted=float(p / n), observed=float(y / n)) for n, p, y in sums.T.tolist() if n > 0
    )


def failure_rows(judged: Sequence[Case], options: Options) -> tuple[tuple[QualityRow, ...], int]:
    """Return each score of doubt's ability to find outlines of Dice below .6, and how many there are."""
    failed = scores(judged, "dice") < FAILURE_DICE
    drawn = Bootstrap([c.patient for c in judged], options.resamples, options.seed)
    return tuple(_row(name, judged, drawn) for name in MEANING), int(failed.sum())


def best(rows: Sequence[QualityRow]) -> str:
    """Return the score with the highest failure-AUROC, of equal ones the lowest AURC; "" where there is none."""
    ranked = [(row.failure_auroc.value, -(row.aurc.value or 0.0), row.name) for row in rows]
    return max(((auc, area, name) for auc, area, name in ranked if auc is not None), default=(0.0, 0.0, ""))[2]


def _row(name: str, judged: Sequence[Case], drawn: Bootstrap) -> QualityRow:
    loss = 1 - scores(judged, "dice")
    doubt = numbers([getattr(c.quality, name) for c in judged])
    failed = scores(judged, "dice") < FAILURE_DICE
    everywhere = np.ones(len(judged), dtype=bool)
    none = "no outline failed (Dice below .6)" if not failed.any() else "every outline failed (Dice below .6)"
    return QualityRow(
        name=name,
        failure_auroc=drawn.measure(
            lambda i: auroc(failed[i], doubt[i]), everywhere, none if len(judged) else NO_OUTLINE
        ),
        aurc=drawn.measure(lambda i: aurc(loss[i], doubt[i]), everywhere, NO_OUTLINE),
        excess_aurc=drawn.measure(lambda i: aurc(loss[i], doubt[i]) - aurc(loss[i], loss[i]), everywhere, NO_OUTLINE),
        correlation=drawn.measure(
            lambda i: spearman(loss[i], doubt[i]), everywhere, "the score or the Dice is the same in all studies"
        ),
    )


def risk_coverage(loss: Numbers, doubt: Numbers) -> Numbers:
    """Return the mean loss of the 1, 2, ... n least doubtful studies; tied studies come in expected order."""
    _, tied = np.unique(doubt, return_inverse=True)
    expected = (np.bincount(tied, loss) / np.bincount(tied))[tied]
    order: NDArray[np.int64] = np.argsort(doubt, kind="stable")
    return np.asarray(np.cumsum(expected[order]) / np.arange(1, loss.size + 1))


def aurc(loss: Numbers, doubt: Numbers) -> float:
    """Return the area under the risk-coverage curve (Geifman and El-Yaniv 2017)."""
    return float(risk_coverage(loss, doubt).mean())


def spearman(a: Numbers, b: Numbers) -> float:
    """Return Spearman's rank correlation; NaN where one does not vary."""
    if a.size < 2 or not np.ptp(a) or not np.ptp(b):
        return float("nan")
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])
