"""From the model's numbers to an answer, by the bundle's calibration; pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from daemon.domain.finding import Answer, Doubt, Estimate, Findings, Interval, Lesion, RiskClass, Uncertainty
from daemon.domain.model_bundle import Calibration


@dataclass(frozen=True, kw_only=True)
class RawNumbers:
    """One number per MC pass; the size-normalised entropy of the outline (0..1); how unlike the training a study is."""

    tumour_logits: Sequence[float]
    risks: Sequence[float]
    entropy_score: float
    seed: int
    novelty: float = 0.0


def decide(raw: RawNumbers, lesions: Sequence[Lesion], calibration: Calibration) -> Findings:
    """Return the findings; lesions are part of them unless a tumour is not likely."""
    probability = _estimate([_platt(logit, calibration) for logit in raw.tumour_logits])
    hazards = [r - calibration.risk_centre for r in raw.risks] if calibration.survival_fitted else []
    risk = _estimate(hazards) if hazards else None
    doubts = _doubts(probability, lesions, calibration)
    answer = _answer(probability, doubts, calibration)
    vague = _vague(raw, lesions, calibration)
    shown = () if answer is Answer.NOT_LIKELY else tuple(lesions)
    return Findings(
        answer=answer,
        tumour_probability=probability,
        survival_risk=risk,
        risk_class=_risk_class(risk.mean, calibration.risk_cuts) if risk else None,
        survival={
            years: _estimate([alive ** math.exp(hazard) for hazard in hazards])
            for years, alive in sorted(calibration.baseline_survival.items())
            if hazards
        },
        uncertainty=Uncertainty(score=raw.entropy_score, flag=bool(doubts or vague), doubts=(*doubts, *vague)),
        lesions=shown,
        volume_ml=_volume(shown, calibration),
        novelty=raw.novelty if math.isfinite(calibration.novelty_limit) else None,
        passes=len(raw.tumour_logits),
        seed=raw.seed,
    )


def _answer(probability: Estimate, doubts: tuple[Doubt, ...], calibration: Calibration) -> Answer:
    if doubts:
        return Answer.UNCERTAIN
    return Answer.LIKELY if probability.mean >= calibration.threshold else Answer.NOT_LIKELY


def _doubts(probability: Estimate, lesions: Sequence[Lesion], calibration: Calibration) -> tuple[Doubt, ...]:
    """Return why neither yes nor no can be said."""
    likely = probability.mean >= calibration.threshold
    checks = {
        Doubt.BAND: (calibration.uncertain_low <= probability.mean < calibration.uncertain_high),
        Doubt.DISAGREEMENT: probability.sd > calibration.probability_sd_limit,
        Doubt.NO_OUTLINE: likely and not lesions,
        Doubt.STRAY_OUTLINE: not likely and bool(lesions),
    }
    return tuple(doubt for doubt, holds in checks.items() if holds)


def _vague(raw: RawNumbers, lesions: Sequence[Lesion], calibration: Calibration) -> tuple[Doubt, ...]:
    """Return what asks for review without taking the answer back."""
    checks = {
        Doubt.VAGUE_OUTLINE: bool(lesions) and raw.entropy_score > calibration.entropy_limit,
        Doubt.UNFAMILIAR: raw.novelty > calibration.novelty_limit,
    }
    return tuple(doubt for doubt, holds in checks.items() if holds)


def _volume(lesions: Sequence[Lesion], calibration: Calibration) -> Interval | None:
    """Return where the volume of all lesions lies (split conformal prediction, Lei et al. 2018)."""
    if not lesions or math.isinf(calibration.volume_log_spread):
        return None
    volume, spread = sum(lesion.volume_ml for lesion in lesions), math.exp(calibration.volume_log_spread)
    return Interval(
        low=max((volume + 1) / spread - 1, 0.0), high=(volume + 1) * spread - 1, coverage=calibration.volume_coverage
    )


def _platt(logit: float, calibration: Calibration) -> float:
    """Return the calibrated probability (Platt 1999)."""
    return 0.5 + 0.5 * math.tanh(0.5 * (calibration.platt_slope * logit + calibration.platt_intercept))


def _estimate(values: Sequence[float]) -> Estimate:
    return Estimate(mean=fmean(values), sd=pstdev(values))


def _risk_class(risk: float, cuts: tuple[float, float]) -> RiskClass:
    if risk < cuts[0]:
        return RiskClass.LOW
    return RiskClass.MODERATE if risk < cuts[1] else RiskClass.HIGH
