"""From scores to probabilities: Platt's two numbers, or a temperature alone."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Numbers = NDArray[np.float64]
Method = Literal["platt", "temperature"]
# Without it a set that can be parted would ask for an endless slope.
_RIDGE = 1e-3
_DRAWS = 500


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Probability is sigmoid(slope * logit + intercept); the slope is above 0, so that order never turns round."""

    slope: float = 1.0
    intercept: float = 0.0

    def __call__(self, logits: Numbers) -> Numbers:
        """Return probabilities; of passes (n, passes) the mean over passes (n,), as the daemon decides by."""
        probability = sigmoid(self.slope * np.asarray(logits) + self.intercept)
        return probability.mean(axis=1) if probability.ndim == 2 else probability


def fit_scale(logits: Numbers, labels: NDArray[np.integer], method: Method = "platt") -> Scale:
    """Return the scale of least cross-entropy.

    Args:
        logits: (n,), or (n, passes) whose mean probability counts.
        labels: (n,) 0 or 1; replaced by Platt's smoothed targets.
        method: `temperature` keeps the intercept at 0 (Guo et al. 2017), `platt` fits both (Platt 1999).

    Raises:
        ValueError: there is no label.
    """
    if not len(labels):
        raise ValueError("no labels to calibrate with; predict studies whose tumour label or mask is known")
    x = torch.as_tensor(np.asarray(logits, dtype=np.float64)).reshape(len(labels), -1)
    y = torch.as_tensor(np.asarray(labels, dtype=np.float64))
    positives, negatives = float(y.sum()), float((1 - y).sum())
    target = y * (positives + 1) / (positives + 2) + (1 - y) / (negatives + 2)
    log_slope = torch.zeros((), dtype=torch.float64, requires_grad=True)
    intercept = torch.zeros((), dtype=torch.float64, requires_grad=method == "platt")
    fitted = [log_slope, intercept] if method == "platt" else [log_slope]
    optimiser = torch.optim.LBFGS(fitted, max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        probability = torch.sigmoid(log_slope.exp() * x + intercept).mean(dim=1).clamp(1e-12, 1 - 1e-12)
        loss = functional.binary_cross_entropy(probability, target) + _RIDGE * (log_slope.exp() ** 2 + intercept**2)
        loss.backward()
        return loss

    optimiser.step(closure)
    return Scale(slope=float(log_slope.detach().exp()), intercept=float(intercept.detach()))


def expected_error(probability: Numbers, labels: NDArray[np.integer], bins: int = 15) -> float:
    """Return the expected calibration error over bins of equal width (Naeini et al. 2015)."""
    place = np.minimum((probability * bins).astype(int), bins - 1)
    counts = np.bincount(place, minlength=bins)
    surplus = np.bincount(place, weights=probability - labels, minlength=bins)
    return float(np.abs(surplus).sum() / counts.sum())


def chance_error(probability: Numbers, bins: int = 15) -> float:
    """Return the mean `expected_error` that these probabilities (n,) would show if each were right.

    It falls with the root of n, so that an error no greater than it says nothing against the probabilities.
    """
    rng = np.random.default_rng(0)
    drawn = (rng.random(len(probability)) < probability for _ in range(_DRAWS))
    return float(np.mean([expected_error(probability, labels.astype(np.int64), bins) for labels in drawn]))


def sigmoid(x: Numbers) -> Numbers:
    """Return 1 / (1 + exp(-x)) without overflow."""
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * np.asarray(x)))


def logit(probability: Numbers) -> Numbers:
    """Return the inverse of `sigmoid`; 0 and 1 become finite."""
    p = np.clip(np.asarray(probability, dtype=np.float64), 1e-7, 1 - 1e-7)
    return np.asarray(np.log(p) - np.log1p(-p))
