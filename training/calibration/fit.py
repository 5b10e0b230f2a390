"""The whole calibration: predictions in; the manifest's numbers, the novelty bank and the evidence out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score, roc_curve

from daemon.domain.drift import Quantity, Spread
from daemon.domain.model_bundle import Calibration
from daemon.inference.novelty import Bank
from training.calibration import cases as reading
from training.calibration.cases import MASK_GRID, Case
from training.calibration.guarantees import (
    LearnThenTest,
    Threshold,
    conformal_quantile,
    per_patient,
    risk_threshold,
    sensitivity_threshold,
    volume_scores,
)
from training.calibration.novelty import Novelty, fit_novelty
from training.calibration.scaling import Scale, chance_error, expected_error, fit_scale, logit, sigmoid
from training.calibration.spreads import spreads
from training.calibration.survival import Baseline, fit_baseline
from training.predictions import demand_scale
from training.settings import CalibrationSettings

Numbers = NDArray[np.float64]
NEUTRAL = Calibration(
    platt_slope=1.0,
    platt_intercept=0.0,
    threshold=0.5,
    uncertain_low=0.4,
    uncertain_high=0.6,
    mask_threshold=0.5,
    explore_threshold=0.05,
    min_lesion_ml=0.3,
    entropy_limit=1.0,
    probability_sd_limit=0.25,
    risk_cuts=(0.0, 0.0),
    baseline_survival={},
    risk_centre=0.0,
)
# Thresholds of the tumour probability that are tested, lowest first, fixed before any study is seen.
THRESHOLD_GRID = sigmoid(np.arange(-8, 8.05, 0.1))
_UNTESTED = Threshold(value=0.5, guaranteed=False, reached=float("nan"), cases=0)
_FEWEST_FAILURES = 5


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the calibration rests on, and how well it holds; shares and errors are of the studies that test it.

    `apart` says that no patient chose and tested. `missed` is the mask threshold whose outline misses at most its share
    of a tumour. `tumour_ece_by_chance` is the error that right probabilities would show on as many studies.
    `sensitivity_ml` is the volume from which a tumour counts. `failure_auroc` is how well the entropy score tells the
    `failed` outlines. What guarantees rest on, `volume_cases` too, counts patients, and a sensitivity those of whom no
    tumour was missed. NaN stands for what could not be measured.
    """

    studies: int
    choosing: int
    testing: int
    apart: bool
    settings: CalibrationSettings
    tumour_ece: float
    tumour_ece_by_chance: float
    voxel_ece: float
    sensitivity: Threshold
    sensitivity_ml: float
    specificity: float
    missed: Threshold
    volume_cases: int
    failed: int
    failure_auroc: float
    novelty_coverage: float
    survival_cases: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Fitted:
    """A calibration with its evidence; `bank` is None where studies were too few or hold no embedding.

    `spreads` are what drift is told by, of what enough studies have.
    """

    calibration: Calibration
    bank: Bank | None
    evidence: Evidence
    spreads: dict[Quantity, Spread]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Parts:
    """Cases that chose, cases that test (the same ones where too few chose), and all of them."""

    choosing: list[Case]
    testing: list[Case]
    everyone: list[Case]
    apart: bool


def fit(folder: Path, settings: CalibrationSettings, min_lesion_ml: float) -> Fitted:
    """Return the calibration from the predictions in `folder`, made by the quantised model without calibration.

    Raises:
        FileNotFoundError: there is no prediction.
        ValueError: no study has a tumour label, or the predictions are calibrated already.
    """
    paths = reading.paths_in(folder)
    demand_scale(paths, NEUTRAL, "calibrate on what `predict` says of the run without --calibrated")
    first, rest = reading.chosen(paths, settings.fit_share)
    voxel = _voxel_scale(first, settings)
    start = replace(
        NEUTRAL,
        min_lesion_ml=min_lesion_ml,
        voxel_slope=voxel.slope,
        voxel_intercept=voxel.intercept,
        volume_coverage=settings.volume_coverage,
    )
    choosing, testing = reading.read_cases(first, start), reading.read_cases(rest, start)
    missed = _missed(testing, settings)
    ships_missed = settings.mask == "missed-voxels" and missed.cases
    masked = replace(start, mask_threshold=missed.value if ships_missed else _best_mask(choosing))
    testing = reading.at_threshold(testing, rest, masked)
    apart = first != rest
    everyone = [*reading.at_threshold(choosing, first, masked), *testing] if apart else testing
    parts = _Parts(choosing=choosing, testing=testing, everyone=everyone, apart=apart)
    return _finish(masked, parts, settings, (missed, _voxel_error(rest, voxel)))


def _finish(
    masked: Calibration, parts: _Parts, settings: CalibrationSettings, outline: tuple[Threshold, float]
) -> Fitted:
    """Fit the study's numbers, and gather the evidence; `outline` is the conformal threshold and the voxels' error."""
    limit, failed, auroc = _quality(parts.everyone, settings.good_dice)
    found = _Found(
        answer=_answer(parts, settings, masked.min_lesion_ml),
        entropy_limit=limit,
        failed=failed,
        failure_auroc=auroc,
        baseline=_baseline(parts.everyone),
        novelty=_novelty(parts.everyone, settings),
        outlined=[c for c in parts.testing if c.outlined_ml > 0],
    )
    calibration = _calibration(masked, settings, found)
    return Fitted(
        calibration=calibration,
        bank=found.novelty.bank if found.novelty else None,
        evidence=_evidence(parts, settings, found, outline),
        spreads=spreads(parts.everyone, calibration, found.novelty),
    )


def _calibration(masked: Calibration, settings: CalibrationSettings, found: "_Found") -> Calibration:
    answer, cut = found.answer, found.answer.sensitivity.value
    return replace(
        masked,
        platt_slope=answer.scale.slope,
        platt_intercept=answer.scale.intercept,
        threshold=cut,
        uncertain_low=max(cut - settings.uncertain_band, 0.0),
        uncertain_high=min(cut + settings.uncertain_band, 1.0),
        entropy_limit=found.entropy_limit,
        risk_centre=found.baseline.centre,
        risk_cuts=found.baseline.cuts,
        baseline_survival=found.baseline.survival,
        volume_log_spread=_volume_spread(found.outlined, settings.volume_coverage),
        novelty_limit=found.novelty.limit if found.novelty else math.inf,
    )


def _evidence(
    parts: _Parts, settings: CalibrationSettings, found: "_Found", outline: tuple[Threshold, float]
) -> Evidence:
    answer = found.answer
    return Evidence(
        studies=len(parts.everyone),
        choosing=len(parts.choosing),
        testing=len(parts.testing),
        apart=parts.apart,
        settings=settings,
        tumour_ece=answer.ece,
        tumour_ece_by_chance=answer.ece_by_chance,
        voxel_ece=outline[1],
        sensitivity=answer.sensitivity,
        sensitivity_ml=answer.from_ml,
        specificity=answer.specificity,
        missed=outline[0],
        volume_cases=len({c.patient for c in found.outlined}),
        failed=found.failed,
        failure_auroc=found.failure_auroc,
        novelty_coverage=found.novelty.coverage if found.novelty else math.nan,
        survival_cases=found.baseline.cases,
    )


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """The tumour answer: its scale, and on the testing studies its error, threshold and specificity."""

    scale: Scale
    ece: float
    ece_by_chance: float
    from_ml: float
    sensitivity: Threshold
    specificity: float


@dataclass(frozen=True, kw_only=True, eq=False)
class _Found:
    """What the cases say; `outlined` are the testing ones that have an outline."""

    answer: _Answer
    entropy_limit: float
    failed: int
    failure_auroc: float
    baseline: Baseline
    novelty: Novelty | None
    outlined: list[Case]


def _answer(parts: _Parts, settings: CalibrationSettings, min_lesion_ml: float) -> _Answer:
    scale = _tumour_scale(parts.choosing, settings)
    # Smaller tumours than the daemon outlines are nobody's miss; a volume that is not known passes.
    from_ml = max(min_lesion_ml, settings.sensitivity_ml)
    labelled = [c for c in parts.testing if c.tumour == 0 or (c.tumour == 1 and not c.true_ml < from_ml)]
    probability, labels = scale(_logits(labelled)), np.array([c.tumour for c in labelled])
    negatives = probability[labels == 0]
    lowest = -per_patient(-probability[labels == 1], [c.patient for c in labelled if c.tumour])
    sensitivity = _sensitivity((lowest, negatives), settings, apart=parts.apart)
    return _Answer(
        scale=scale,
        ece=expected_error(probability, labels) if labelled else math.nan,
        ece_by_chance=chance_error(probability) if labelled else math.nan,
        from_ml=from_ml,
        sensitivity=sensitivity,
        specificity=float((negatives < sensitivity.value).mean()) if negatives.size else math.nan,
    )


def _baseline(cases: Sequence[Case]) -> Baseline:
    followed = [c for c in cases if c.time_days is not None and c.event is not None]
    risks, days = np.array([c.risk for c in followed]), [float(c.time_days or 0) for c in followed]
    return fit_baseline(risks, days, [int(c.event or 0) for c in followed])


def _novelty(cases: Sequence[Case], settings: CalibrationSettings) -> Novelty | None:
    known = [c for c in cases if c.embedding.size]
    if not known:
        return None
    embeddings, patients = np.stack([c.embedding for c in known]), [c.patient for c in known]
    return fit_novelty(embeddings, patients, settings.neighbours, settings.novelty_coverage)


def _volume_spread(outlined: Sequence[Case], coverage: float) -> float:
    found, true = np.array([c.outlined_ml for c in outlined]), np.array([c.true_ml for c in outlined])
    return conformal_quantile(per_patient(volume_scores(found, true), [c.patient for c in outlined]), coverage)


def _logits(cases: Sequence[Case]) -> Numbers:
    return np.stack([c.logits for c in cases]) if cases else np.zeros((0, 1))


def _tumour_scale(cases: Sequence[Case], settings: CalibrationSettings) -> Scale:
    known = [c for c in cases if c.tumour is not None]
    return fit_scale(_logits(known), np.array([c.tumour for c in known], dtype=int), settings.scaling)


def _voxel_scale(paths: Sequence[Path], settings: CalibrationSettings) -> Scale:
    if settings.voxel_scaling == "none":
        return Scale()
    probability, truth = reading.voxels(paths)
    return fit_scale(logit(probability), truth, settings.voxel_scaling) if truth.any() else Scale()


def _voxel_error(paths: Sequence[Path], scale: Scale) -> float:
    probability, truth = reading.voxels(paths)
    return expected_error(scale(logit(probability)), truth) if len(truth) else math.nan


def _best_mask(cases: Sequence[Case]) -> float:
    curves = [c.dice for c in cases if c.dice is not None]
    return float(MASK_GRID[int(np.argmax(np.mean(curves, axis=0)))]) if curves else NEUTRAL.mask_threshold


def _missed(cases: Sequence[Case], settings: CalibrationSettings) -> Threshold:
    bearing = [(c.missed, c.patient) for c in cases if c.missed is not None]
    if not bearing:
        return _UNTESTED
    losses = per_patient(np.stack([missed for missed, _ in bearing]), [patient for _, patient in bearing])
    return risk_threshold(losses, MASK_GRID, settings.missed_voxels)


def _sensitivity(probability: tuple[Numbers, Numbers], settings: CalibrationSettings, *, apart: bool) -> Threshold:
    """Return the threshold; where the same studies chose the scale, nothing is guaranteed."""
    positives, negatives = probability
    if not positives.size:
        return _UNTESTED
    test = LearnThenTest(grid=THRESHOLD_GRID, goal=settings.sensitivity, delta=settings.delta)
    found = sensitivity_threshold(positives, negatives, test)
    return replace(found, guaranteed=found.guaranteed and apart)


def _quality(cases: Sequence[Case], good: float) -> tuple[float, int, float]:
    """Return the entropy limit, how many outlines failed, and how well entropy tells them (AUROC).

    With enough of both kinds the limit parts them best (Youden 1950), else 95 % of the good ones stay below it.
    """
    outlined = [c for c in cases if c.outlined_ml > 0]
    entropy = np.array([c.entropy for c in outlined])
    failed = np.array([c.overlap < good for c in outlined], dtype=bool)
    count = int(failed.sum())
    auroc = float(roc_auc_score(failed, entropy)) if 0 < count < len(failed) else math.nan
    if min(count, len(failed) - count) >= _FEWEST_FAILURES and auroc > 0.5:
        false, true, limits = roc_curve(failed, entropy)
        # The curve counts scores at or above a limit as failed, the daemon only those above.
        return float(np.nextafter(limits[int(np.argmax(true - false))], 0)), count, auroc
    kept = entropy[~failed]
    return (float(np.quantile(kept, 0.95)) if kept.size else NEUTRAL.entropy_limit), count, auroc
