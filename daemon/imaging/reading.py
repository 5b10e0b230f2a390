"""What a model made of a study: findings, outline and maps on the source grid."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from daemon.domain.finding import Findings


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """Findings, and maps (slices, rows, columns) on the grid of the reference volume (MR, or PET).

    `labels` 1..K are the lesions; `probability`, its `sd` over passes, and predictive `entropy` in nats;
    `seconds` by step.
    """

    findings: Findings
    labels: NDArray[np.uint8]
    probability: NDArray[np.float32]
    sd: NDArray[np.float32]
    entropy: NDArray[np.float32]
    seconds: Mapping[str, float]
