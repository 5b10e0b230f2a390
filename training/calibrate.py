"""Calibrates and measures the shipped INT8 graphs through the daemon's own inference (docs/adr/0003)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from lifelines.utils import concordance_index
from monai.metrics.meandice import DiceHelper
from numpy.typing import NDArray
from rich.progress import track
from torch.nn import functional
from torchsurv.loss.cox import baseline_survival_function

from daemon.domain.model_bundle import Calibration
from daemon.imaging.steps import Prepared
from daemon.imaging.volume import Grid
from daemon.inference.mc_dropout import Inference, infer
from daemon.inference.reader import numbers
from daemon.inference.session import Model
from training.data.sample import Sample

DAYS_PER_YEAR = 365.25
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
    baseline_survival={1: 0.8, 2: 0.6, 5: 0.3},
    risk_centre=0.0,
)
# Within this of the threshold, neither yes nor no is said.
UNCERTAIN_BAND = 0.1
MASK_THRESHOLDS = (0.3, 0.4, 0.5, 0.6)


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One study as the shipped model sees it."""

    sample: Sample
    logit: float
    logit_sd: float
    risk: float
    entropy: float
    dice: dict[float, float]


def read_cases(model: Model, samples: Sequence[Sample], spacing: tuple[float, float, float], note: str) -> list[Case]:
    """Run the daemon's inference on prepared samples."""
    return [_case(model, sample, spacing) for sample in track(samples, description=note)]


def _case(model: Model, sample: Sample, spacing: tuple[float, float, float]) -> Case:
    array = sample.image.astype(np.float32)
    padded = _to_multiple(array, model.manifest.recipe.multiple)
    size = (padded.shape[1], padded.shape[2], padded.shape[3])
    prepared = Prepared(array=padded, grid=Grid(size=size, spacing=spacing, origin=(0.0, 0.0, 0.0)))
    raw = infer(model, prepared, sample.name)
    threshold = model.manifest.calibration.mask_threshold
    return Case(
        sample=sample,
        logit=float(np.mean(raw.tumour_logits)),
        logit_sd=float(np.std(raw.tumour_logits)),
        risk=float(np.mean(raw.risks)),
        entropy=numbers(raw, threshold).entropy_score,
        dice={t: dice(raw, sample, t) for t in MASK_THRESHOLDS},
    )


def dice(raw: Inference, sample: Sample, threshold: float) -> float:
    """Return the study's Dice at a threshold; NaN without a truth or with both empty."""
    if sample.mask is None or not sample.mask.any():
        return float("nan")
    rows, columns = sample.mask.shape[1:]
    outline = torch.from_numpy(raw.probability[:, :rows, :columns] >= threshold)[None, None].float()
    truth = torch.from_numpy(sample.mask.astype(np.float32))[None, None]
    score, _ = DiceHelper(include_background=True, num_classes=1, softmax=False)(outline, truth)
    return float(score)


def fit(cases: Sequence[Case], cohort: Sequence[Case], min_lesion_ml: float) -> Calibration:
    """Return the calibration from tuning `cases`; survival from the whole `cohort`'s follow-up."""
    logits, labels = zip(*[(c.logit, c.sample.tumour) for c in cases if c.sample.tumour is not None], strict=True)
    slope, intercept = platt(logits, labels)
    threshold = youden_threshold(_sigmoid(slope * np.array(logits) + intercept), np.array(labels))
    best = max(MASK_THRESHOLDS, key=lambda t: float(np.nanmean([c.dice[t] for c in cases])))
    entropy = [c.entropy for c in cases if c.dice[best] >= 0.6]
    centre, cuts, baseline = survival(cohort)
    return replace(
        NEUTRAL,
        platt_slope=slope,
        platt_intercept=intercept,
        threshold=threshold,
        uncertain_low=max(threshold - UNCERTAIN_BAND, 0.0),
        uncertain_high=min(threshold + UNCERTAIN_BAND, 1.0),
        mask_threshold=best,
        min_lesion_ml=min_lesion_ml,
        entropy_limit=float(np.quantile(entropy, 0.95)) if entropy else 0.5,
        risk_centre=centre,
        risk_cuts=cuts,
        baseline_survival=baseline,
    )


def platt(logits: Sequence[float], labels: Sequence[int]) -> tuple[float, float]:
    """Return slope and intercept (Platt 1999, with his smoothed targets and a weak ridge on the slope)."""
    x = torch.tensor(logits, dtype=torch.float64)
    y = torch.tensor(labels, dtype=torch.float64)
    positives, negatives = float(y.sum()), float((1 - y).sum())
    target = torch.where(y > 0, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    weights = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        fitted = functional.binary_cross_entropy_with_logits(weights[0] * x + weights[1], target)
        loss = fitted + 1e-3 * weights[0] ** 2
        loss.backward()
        return loss

    optimiser.step(closure)
    slope, intercept = weights.detach().tolist()
    return slope, intercept


def youden_threshold(probability: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the threshold with the highest sensitivity + specificity (Youden 1950).

    Of the gap between two neighbouring cases the middle is taken; of equal gaps the lowest, which misses less.
    """
    found = np.unique(probability)
    middles = (found[:-1] + found[1:]) / 2
    positive, negative = probability[labels == 1], probability[labels == 0]
    index = [float((positive >= t).mean() + (negative < t).mean()) for t in middles]
    return float(middles[int(np.argmax(index))])


def survival(cohort: Sequence[Case]) -> tuple[float, tuple[float, float], dict[int, float]]:
    """Return the mean log hazard, cuts into thirds, and Breslow's baseline survival at 1, 2 and 5 years."""
    known = [c for c in cohort if c.sample.time_days is not None and c.sample.event is not None]
    risk = np.array([c.risk for c in known])
    centre = float(risk.mean())
    cuts = np.quantile(risk - centre, (1 / 3, 2 / 3))
    event = torch.tensor([bool(c.sample.event) for c in known])
    time = torch.tensor([float(c.sample.time_days or 0) for c in known])
    order = torch.argsort(time)
    fitted = baseline_survival_function(torch.tensor(risk - centre)[order].float(), event[order], time[order])
    times, alive = fitted["time"].numpy(), fitted["baseline_survival"].numpy()
    years = {}
    for year in (1, 2, 5):
        before = np.flatnonzero(times <= year * DAYS_PER_YEAR)
        years[year] = float(np.clip(alive[before[-1]] if before.size else 1.0, 0.001, 0.999))
    return centre, (float(cuts[0]), float(cuts[1])), years


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Figures of a set of cases; NaN where the set cannot give one."""

    studies: int
    dice_mean: float
    dice_median: float
    auc: float
    sensitivity: float
    specificity: float
    c_index: float
    c_index_oracle: float


def score(cases: Sequence[Case], calibration: Calibration) -> Scores:
    """Return the figures of `cases` at the calibrated thresholds."""
    labels = np.array([c.sample.tumour for c in cases])
    probability = _sigmoid(calibration.platt_slope * np.array([c.logit for c in cases]) + calibration.platt_intercept)
    found = probability >= calibration.threshold
    overlaps = [c.dice[calibration.mask_threshold] for c in cases if c.sample.tumour]
    return Scores(
        studies=len(cases),
        dice_mean=float(np.nanmean(overlaps)),
        dice_median=float(np.nanmedian(overlaps)),
        auc=auc(probability, labels),
        sensitivity=float(found[labels == 1].mean()) if (labels == 1).any() else float("nan"),
        specificity=float((~found[labels == 0]).mean()) if (labels == 0).any() else float("nan"),
        c_index=_concordance(cases, [c.risk for c in cases]),
        c_index_oracle=_concordance(cases, [c.sample.log_hazard for c in cases]),
    )


def auc(probability: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the area under the ROC curve; ties count half."""
    if labels.min() == labels.max():
        return float("nan")
    return float(concordance_index(labels, probability))


def _concordance(cases: Sequence[Case], risks: Sequence[float | None]) -> float:
    known = [
        (c.sample, r) for c, r in zip(cases, risks, strict=True) if c.sample.time_days is not None and r is not None
    ]
    if not known:
        return float("nan")
    times, events = [s.time_days for s, _ in known], [s.event for s, _ in known]
    return float(concordance_index(times, [-r for _, r in known], events))


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * x))


def _to_multiple(array: NDArray[np.float32], multiple: int) -> NDArray[np.float32]:
    short = [-n % multiple for n in array.shape[-2:]]
    return np.pad(array, [(0, 0), (0, 0), (0, short[0]), (0, short[1])], constant_values=float(array.min()))
