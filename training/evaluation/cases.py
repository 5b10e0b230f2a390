"""Predictions as the daemon would answer them, scored against the truth; the maps are not kept."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from daemon.domain.decision import RawNumbers, decide
from daemon.domain.finding import Findings
from daemon.domain.model_bundle import Calibration
from daemon.imaging.lesions import Maps as LesionMaps
from daemon.imaging.lesions import measure
from daemon.imaging.volume import Grid
from training.data.sample import npz_files
from training.evaluation.overlap import Ruler, overlap
from training.evaluation.quality import Maps, VoxelSums, quality, voxel_sums
from training.evaluation.values import Origin, Overlap, Quality
from training.predictions import RESCALE, Prediction, demand_scale, load_all


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One study: its truth, the daemon's findings, and its scores; `overlap` and `voxels` None without a mask."""

    name: str
    patient: str
    source: str
    origin: Origin
    strata: tuple[str, ...]
    tumour: int | None
    time_days: float | None
    event: int | None
    covariates: dict[str, float]
    log_hazard: float | None
    findings: Findings
    outlined_ml: float
    overlap: Overlap | None
    voxels: VoxelSums | None
    quality: Quality

    @property
    def probability(self) -> float:
        """Return the calibrated tumour probability."""
        return self.findings.tumour_probability.mean

    @property
    def risk(self) -> float | None:
        """Return the log hazard above the training cohort's mean; None where the bundle's survival was not fitted."""
        return self.findings.survival_risk.mean if self.findings.survival_risk else None

    @property
    def followed(self) -> bool:
        """Return whether there is follow-up."""
        return self.time_days is not None and self.event is not None


def read_cases(folder: Path, calibration: Calibration, tolerance_mm: float | None) -> tuple[list[Case], float]:
    """Return all predictions of `folder` as cases, one in memory at a time, and the tolerance used.

    Args:
        folder: of predictions.
        calibration: decides, cuts and thresholds as the daemon does.
        tolerance_mm: of the surface scores; the coarsest voxel edge of the first study where None.

    Raises:
        FileNotFoundError: the folder holds no predictions.
        ValueError: a mask does not have its prediction's shape, or another calibration scaled the voxels.
    """
    paths = npz_files(folder)
    if not paths:
        load_all(folder)
    demand_scale(paths, calibration, RESCALE)
    tolerance = max(Prediction.load(paths[0]).spacing) if tolerance_mm is None else tolerance_mm
    return list(_cases(paths, calibration, tolerance)), tolerance


def _cases(paths: Sequence[Path], calibration: Calibration, tolerance_mm: float) -> Iterator[Case]:
    for path in track(paths, description="score"):
        yield case_of(Prediction.load(path), calibration, tolerance_mm)


def case_of(prediction: Prediction, calibration: Calibration, tolerance_mm: float) -> Case:
    """Return one prediction as a case.

    Raises:
        ValueError: its mask does not have its shape.
    """
    maps = Maps.of(prediction)
    findings, outline = _answer(prediction, maps, calibration)
    truth = _truth(prediction)
    ruler = Ruler(spacing=prediction.spacing, tolerance_mm=tolerance_mm)
    return Case(
        name=prediction.name,
        patient=prediction.patient or prediction.name,
        source=prediction.source,
        origin=origin(prediction.source, prediction.log_hazard),
        strata=prediction.strata,
        tumour=prediction.tumour,
        time_days=prediction.time_days,
        event=prediction.event,
        covariates=prediction.covariates,
        log_hazard=prediction.log_hazard,
        findings=findings,
        outlined_ml=int(outline.sum()) * prediction.voxel_ml,
        overlap=None if truth is None else overlap(outline, truth, ruler),
        voxels=None if truth is None else voxel_sums(maps, outline, truth, calibration.explore_threshold),
        quality=quality(maps, outline, calibration.mask_threshold),
    )


def origin(source: str, log_hazard: float | None) -> Origin:
    """Return whether a sample was made or is of a patient: only a made one's hazard is known."""
    made = log_hazard is not None or any(word in source.lower() for word in ("phantom", "synth"))
    return "synthetic" if made else "real"


def _truth(prediction: Prediction) -> NDArray[np.bool_] | None:
    if prediction.truth is None:
        return None
    if prediction.truth.shape != prediction.probability.shape:
        raise ValueError(
            f"{prediction.name}: its mask is {prediction.truth.shape} and its probability map "
            f"{prediction.probability.shape}; prepare the sample and predict it again"
        )
    return prediction.truth.astype(bool)


def _answer(prediction: Prediction, maps: Maps, calibration: Calibration) -> tuple[Findings, NDArray[np.bool_]]:
    """Return the daemon's findings and the outline that its lesions make."""
    size = prediction.probability.shape
    grid = Grid(size=(size[0], size[1], size[2]), spacing=prediction.spacing, origin=(0.0, 0.0, 0.0))
    probability = prediction.probability.astype(np.float32)
    # The lesions' own volume SD is not used here, so the SD map may be anything.
    lesion_maps = LesionMaps(probability=probability, sd=np.zeros_like(probability))
    lesions, labels = measure(lesion_maps, grid, calibration.mask_threshold, calibration.min_lesion_ml)
    outline = labels > 0
    raw = RawNumbers(
        tumour_logits=prediction.tumour_logits.tolist(),
        risks=prediction.risks.tolist(),
        entropy_score=quality(maps, outline, calibration.mask_threshold).mean_entropy,
        seed=0,
    )
    return decide(raw, lesions, calibration), outline
