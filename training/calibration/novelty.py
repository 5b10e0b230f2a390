"""The bank of known studies, and from which distance a study counts as unfamiliar."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from daemon.inference.novelty import Bank
from training.calibration.guarantees import conformal_quantile


@dataclass(frozen=True, kw_only=True, eq=False)
class Novelty:
    """A bank, and the limit that the share `coverage` of studies like the bank's stay below.

    `distances` (n,) are those of each study to the others.
    """

    bank: Bank
    distances: NDArray[np.float32]
    limit: float
    coverage: float


def fit_novelty(embeddings: NDArray[np.float32], neighbours: int, coverage: float) -> Novelty | None:
    """Return the bank of `embeddings` (n, d), None where they are no more than `neighbours` + 1.

    The limit is the conformal quantile of each study's distance to the others: leaving one out makes a known study look
    as a new one would. Where studies are too few for `coverage`, the highest that they allow, n / (n + 1), is taken.
    """
    if len(embeddings) <= neighbours + 1:
        return None
    centre, scale = embeddings.mean(axis=0), np.maximum(embeddings.std(axis=0), 1e-3)
    rows = ((embeddings - centre) / scale).astype(np.float16).astype(np.float32)
    distances, _ = NearestNeighbors(n_neighbors=neighbours).fit(rows).kneighbors()
    reachable, apart = min(coverage, len(rows) / (len(rows) + 1)), distances[:, -1] / np.sqrt(rows.shape[1])
    return Novelty(
        bank=Bank(rows=rows, centre=centre, scale=scale, neighbours=neighbours),
        distances=apart,
        limit=conformal_quantile(apart, reachable),
        coverage=reachable,
    )
