"""What a model made of a study: findings, outline and maps on the source grid."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from daemon.domain.finding import Findings
from daemon.imaging.volume import Volume


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """Findings, and maps (slices, rows, columns) on the grid of the reference volume (MR, or PET).

    `labels` 1..K are the lesions; `probability` and its `sd` over passes; `activation` is what the tumour probability
    comes from, as logits on the model's coarsest grid; `seconds` by step. `find_entropy` is called by who asks for the
    `entropy`, which few results show.
    """

    findings: Findings
    labels: NDArray[np.uint8]
    probability: NDArray[np.float32]
    sd: NDArray[np.float32]
    activation: Volume
    find_entropy: Callable[[], NDArray[np.float32]]
    seconds: Mapping[str, float]

    @cached_property
    def entropy(self) -> NDArray[np.float32]:
        """Return the predictive entropy in nats."""
        return self.find_entropy()
