"""How the daemon's numbers are spread over the calibration's studies: what drift is told by."""

from collections.abc import Sequence

import numpy as np

from daemon.domain.drift import REFERENCE, Quantity, Spread
from daemon.domain.model_bundle import Calibration
from training.calibration.cases import Case
from training.calibration.novelty import Novelty
from training.calibration.scaling import Scale


def spreads(cases: Sequence[Case], calibration: Calibration, novelty: Novelty | None) -> dict[Quantity, Spread]:
    """Return the spread of each quantity that at least `REFERENCE` studies have, as the daemon would give it."""
    scale = Scale(slope=calibration.platt_slope, intercept=calibration.platt_intercept)
    values = {
        Quantity.PROBABILITY: [float(scale(case.logits).mean()) for case in cases],
        Quantity.RISK: [case.risk - calibration.risk_centre for case in cases] if calibration.survival_fitted else [],
        Quantity.VOLUME: [case.outlined_ml for case in cases],
        Quantity.ENTROPY: [case.entropy for case in cases],
        Quantity.NOVELTY: [] if novelty is None else [float(value) for value in novelty.distances],
    }
    known = {quantity: [value for value in found if np.isfinite(value)] for quantity, found in values.items()}
    return {quantity: Spread.of(found) for quantity, found in known.items() if len(found) >= REFERENCE}
