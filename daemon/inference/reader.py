"""The whole of reading: source series to findings, outline and uncertainty maps on the source grid."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from daemon.domain.decision import RawNumbers, decide
from daemon.domain.finding import Findings
from daemon.imaging.lesions import Maps, measure
from daemon.imaging.steps import prepare, to_grid
from daemon.imaging.volume import Volume
from daemon.inference.mc_dropout import Inference, infer
from daemon.inference.session import Model

Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """Findings, and maps on the grid of the reference volume (MR, or PET); `labels` 1..K are the lesions."""

    findings: Findings
    labels: NDArray[np.uint8]
    probability: Array
    sd: Array
    entropy: Array
    seconds: Mapping[str, float]


def read_study(volumes: Mapping[str, Volume], model: Model, key: str, passes: int | None = None) -> Reading:
    """Read `volumes` (by channel role, in the recipe's units) with `model`.

    Args:
        volumes: MR, or PET in SUVbw g/ml and CT in HU.
        model: the loaded bundle.
        key: study UID and bundle digest; the same key gives the same answer.
        passes: number of MC passes; the bundle's own where None.
    """
    calibration = model.manifest.calibration
    reference = volumes[model.manifest.recipe.channels[0].role]
    started = time.perf_counter()
    prepared = prepare(volumes, model.manifest.recipe)
    ready = time.perf_counter()
    raw = infer(model, prepared, key, passes)
    inferred = time.perf_counter()
    probability, sd, entropy = (
        to_grid(m, prepared.grid, reference.grid) for m in (raw.probability, raw.sd, raw.entropy)
    )
    suv = reference.voxels if "PET" in volumes else None
    maps = Maps(probability=probability, sd=sd, suv=suv)
    lesions, labels = measure(maps, reference.grid, calibration.mask_threshold, calibration.min_lesion_ml)
    findings = decide(numbers(raw, calibration.mask_threshold), lesions, calibration)
    if not findings.lesions:
        labels = np.zeros_like(labels)
    measured = time.perf_counter()
    return Reading(
        findings=findings,
        labels=labels,
        probability=probability,
        sd=sd,
        entropy=entropy,
        seconds={"prepare": ready - started, "infer": inferred - ready, "measure": measured - inferred},
    )


def numbers(raw: Inference, mask_threshold: float) -> RawNumbers:
    """Return what decisions need of an inference.

    The entropy score is the summed entropy per outlined voxel in units of ln 2, at most 1, 0 with nothing outlined.
    """
    outlined = int((raw.probability >= mask_threshold).sum())
    score = float(raw.entropy.sum()) / (np.log(2) * outlined) if outlined else 0.0
    return RawNumbers(tumour_logits=raw.tumour_logits, risks=raw.risks, entropy_score=min(score, 1.0), seed=raw.seed)
