"""Small predictions with known errors: balls of tumour, outlines that are shifted, missed or invented."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tomli_w
from numpy.typing import NDArray

from tests.manifests import CALIBRATION
from training.predictions import Prediction

SHAPE, SPACING = (10, 32, 32), (3.0, 1.0, 1.0)
EMPTY: NDArray[np.uint8] = np.zeros(SHAPE, np.uint8)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a prediction should be; `shift` moves the outline by rows, `miss` leaves it out, `alarm` invents one."""

    name: str = "a"
    tumour: bool = True
    radius: float = 6.0
    shift: int = 0
    miss: bool = False
    alarm: bool = False
    logit: float = 3.0
    risk: float = 0.0
    doubt: float = 0.02


def ball(radius: float, row: int = 16) -> NDArray[np.uint8]:
    """Return a ball in mm about the middle."""
    z, y, x = np.indices(SHAPE)
    squared = ((z - 5) * SPACING[0]) ** 2 + (y - row) ** 2 + (x - 16) ** 2
    return (squared <= radius**2).astype(np.uint8)


def make(asked: Asked) -> Prediction:
    """Return a prediction of a phantom that has no strata, follow-up or clinical numbers yet."""
    truth = ball(asked.radius) if asked.tumour else EMPTY
    shown = (asked.tumour and not asked.miss) or asked.alarm
    outline = ball(asked.radius, 16 + asked.shift) if shown else EMPTY
    p = np.where(outline > 0, 1 - asked.doubt, 0.01 * asked.doubt)
    entropy = -p * np.log(p) - (1 - p) * np.log1p(-p)
    return Prediction(
        name=asked.name,
        probability=p.astype(np.float16),
        entropy=entropy.astype(np.float16),
        mutual_information=(entropy / 4).astype(np.float16),
        cam=np.zeros((SHAPE[0], 2, 2), np.float16),
        tumour_logits=np.full(4, asked.logit),
        risks=np.full(4, asked.risk),
        truth=truth,
        source="phantom T2",
        tumour=int(asked.tumour),
        spacing=SPACING,
        patient=asked.name,
        strata=(),
        time_days=None,
        event=None,
        covariates={},
        log_hazard=None,
        voxel_slope=CALIBRATION.voxel_slope,
        voxel_intercept=CALIBRATION.voxel_intercept,
    )


def cohort(count: int, seed: int = 0) -> list[Prediction]:
    """Return varied phantoms with follow-up, strata and ages: doubt grows with error, risk with hazard."""
    rng = np.random.Generator(np.random.Philox(seed))
    return [_varied(rng, f"p{i:03d}") for i in range(count)]


def _varied(rng: np.random.Generator, name: str) -> Prediction:
    tumour = bool(rng.random() < 0.7)
    shift = int(rng.integers(0, 8))
    size, age = float(rng.uniform(4, 9)), float(rng.normal(60, 10))
    hazard = 0.5 * (size - 6.5) + 0.05 * (age - 60)
    asked = Asked(
        name=name,
        tumour=tumour,
        radius=size,
        shift=shift,
        miss=rng.random() < 0.05,
        alarm=not tumour and rng.random() < 0.15,
        logit=float(rng.normal(2 if tumour else -2, 1.3)),
        risk=hazard + float(rng.normal(0, 0.4)),
        doubt=float(np.clip(0.05 + 0.05 * shift + rng.normal(0, 0.05), 0.01, 0.45)),
    )
    died = float(rng.exponential(900 * np.exp(-hazard)))
    censored = float(rng.uniform(300, 2600))
    return replace(
        make(asked),
        source=f"phantom {rng.choice(('FLAIR', 'T1C'))}",
        strata=(("small",) if size < 5.5 else ("large",)) if tumour else ("normal",),
        time_days=min(died, censored),
        event=int(died <= censored),
        covariates={"age_years": age},
        log_hazard=hazard,
    )


def store(predictions: list[Prediction], folder: Path) -> Path:
    """Write predictions into `folder` and return it."""
    for prediction in predictions:
        prediction.save(folder)
    return folder


def calibration(path: Path) -> Path:
    """Write the tests' calibration as TOML into `path` and return it."""
    values = {name: getattr(CALIBRATION, name) for name in CALIBRATION.__dataclass_fields__}
    values["baseline_survival"] = {str(year): alive for year, alive in CALIBRATION.baseline_survival.items()}
    path.write_text(tomli_w.dumps({"calibration": values}), encoding="utf-8")
    return path
