"""The bank of known studies, and from which distance a study counts as unfamiliar."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from daemon.inference.novelty import Bank
from training.calibration.guarantees import conformal_quantile, per_patient


@dataclass(frozen=True, kw_only=True, eq=False)
class Novelty:
    """A bank, and the limit that the share `coverage` of patients like the bank's stay below with all their studies.

    `distances` (n,) are those of each study to other patients'.
    """

    bank: Bank
    distances: NDArray[np.float32]
    limit: float
    coverage: float


def fit_novelty(
    embeddings: NDArray[np.float32], patients: Sequence[str], neighbours: int, coverage: float
) -> Novelty | None:
    """Return the bank of `embeddings` (n, d), None where a patient has no more than `neighbours` studies besides.

    The limit is the conformal quantile over `patients` (n,) of each study's distance to the others': leaving a patient
    out makes known studies look as new ones would. Where patients are too few for `coverage`, the highest that they
    allow, n / (n + 1), is taken.
    """
    owner = np.unique(np.array(patients), return_inverse=True)[1]
    count, most = len(set(patients)), int(np.bincount(owner, minlength=1).max())
    if len(embeddings) <= neighbours + most:
        return None
    centre, scale = embeddings.mean(axis=0), np.maximum(embeddings.std(axis=0), 1e-3)
    rows = ((embeddings - centre) / scale).astype(np.float16).astype(np.float32)
    # Of so many neighbours enough are other patients' even where all of a patient's own are nearest.
    distances, places = NearestNeighbors(n_neighbors=neighbours + most - 1).fit(rows).kneighbors()
    others = (owner[places] != owner[:, None]).cumsum(axis=1)
    apart = distances[np.arange(len(rows)), (others == neighbours).argmax(axis=1)] / np.sqrt(rows.shape[1])
    reachable = min(coverage, count / (count + 1))
    return Novelty(
        bank=Bank(rows=rows, centre=centre, scale=scale, neighbours=neighbours),
        distances=apart,
        limit=conformal_quantile(per_patient(apart, patients), reachable),
        coverage=reachable,
    )
