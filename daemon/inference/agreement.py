"""Whether a model gives here what its bundle's maker saw: to the bit on the CPU, else within stated limits.

The limits are of what is read in a report, not of tensors, and lie within what MC-dropout's own passes differ by:
docs/inference.md has the figures, and what one golden input cannot show.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from daemon.domain.model_bundle import Calibration, folders
from daemon.domain.provider import Provider
from daemon.inference.novelty import describe
from daemon.inference.provider import ProviderError
from daemon.inference.session import Model, goldens, replay, verify

Array = NDArray[np.float32]
Outputs = Mapping[str, Array]

# By how much an answer of the golden input may differ, member by member: hazards by exp(|difference of risk|) - 1, the
# outline of one pass, the mean of voxels' log-odds. Log-odds and probabilities are calibrated.
LIMITS = {
    "tumour probability": 0.02,
    "hazard": 0.05,
    "Dice lost": 0.01,
    "voxel log-odds": 0.1,
    "novelty": 0.05,
}
_JUDGED = ("tumour_logit", "risk", "logits")


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Whether golden outputs come back, and in words what differs."""

    ok: bool
    detail: str


def examine(model: Model) -> Agreement:
    """Run the bundle's golden input where `model` is, and judge what comes of it.

    Raises:
        FatalError: the bundle has no golden outputs.
    """
    if model.engine.provider is Provider.CPU:
        wrong = verify(model)
        return Agreement(
            ok=not wrong, detail=f"differs in {', '.join(wrong)}" if wrong else "golden outputs reproduced to the bit"
        )
    stored = goldens(model.bundle)
    return judge(distances(stored, replay(model, stored), model))


def check(model: Model) -> None:
    """Check that the answers on a provider other than the CPU are those of the bundle's maker, within the limits.

    Raises:
        ProviderError: they are not; numbers and mend are in it.
    """
    if model.engine.provider is Provider.CPU:
        return
    verdict = examine(model)
    if not verdict.ok:
        raise ProviderError(
            f"bundle {model.bundle.ref.name} on {model.engine.provider}: {verdict.detail}; set inference.provider to "
            "cpu, or to one that `overread doctor` finds to agree"
        )


def judge(found: Mapping[str, float]) -> Agreement:
    """Return the verdict on `distances`."""
    beyond = [f"{name} by {apart:.2g}, limit {LIMITS[name]:g}" for name, apart in found.items() if apart > LIMITS[name]]
    if beyond:
        return Agreement(ok=False, detail=f"golden outputs differ too much: {'; '.join(beyond)}")
    told = ", ".join(f"{name} {apart:.2g}" for name, apart in found.items())
    return Agreement(ok=True, detail=f"golden outputs within the limits: {told}")


def distances(stored: Outputs, got: Outputs, model: Model) -> dict[str, float]:
    """Return how far outputs are from golden ones by each of `LIMITS`, of the worst member; infinite for no number."""
    places = folders(len(model.members))
    apart = [_member(stored, got, place, model.manifest.calibration) for place in places]
    moved = model.novelty_moved(_description(stored, places, model) - _description(got, places, model))
    found = [*np.max(apart, axis=0), moved]
    return {name: float(np.nan_to_num(value, nan=np.inf)) for name, value in zip(LIMITS, found, strict=True)}


def _member(stored: Outputs, got: Outputs, place: str, fit: Calibration) -> tuple[float, float, float, float]:
    """Return what `distances` does of one member, in that order, but for novelty, which is of all together."""
    theirs, ours = ({name: outputs[f"{place}{name}"] for name in _JUDGED} for outputs in (stored, got))
    tumours = [_sigmoid(fit.platt_slope * one["tumour_logit"] + fit.platt_intercept) for one in (theirs, ours)]
    odds = [fit.voxel_slope * one["logits"] + fit.voxel_intercept for one in (theirs, ours)]
    outlines = [_sigmoid(one) >= fit.mask_threshold for one in odds]
    return (
        float(np.abs(tumours[0] - tumours[1]).max()),
        float(np.expm1(np.abs(theirs["risk"] - ours["risk"])).max()),
        1 - dice(*outlines),
        float(np.abs(odds[0] - odds[1]).mean()),
    )


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Return the Dice coefficient of two outlines, 1 where both are empty."""
    size = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / size if size else 1.0


def _description(outputs: Outputs, places: tuple[str, ...], model: Model) -> Array:
    """Return the part of a study's description that comes of the networks; the image's own part is 0."""
    nothing = np.zeros((len(model.manifest.recipe.channels), 1, 1, 1), dtype=np.float32)
    return describe(nothing, [outputs[f"{place}f4"] for place in places])


def _sigmoid(logits: Array) -> Array:
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * logits), dtype=np.float32)
