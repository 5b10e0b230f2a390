"""Which unlabelled studies to annotate next: those that the model doubts, and that differ from one another.

k-centre greedy (Sener and Savarese 2018) over the daemon's descriptions of the studies, each distance weighted by the
study's doubt.
"""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.stats import rankdata

from training.calibration.cases import paths_in
from training.calibration.scaling import Scale
from training.predictions import Prediction

Numbers = NDArray[np.float64]
DOUBTS = (
    "the tumour probability is close to undecided",
    "the passes disagree on the tumour probability",
    "the outline is vague",
    "the model itself is unsure where the tumour ends",
)
_CONCEIVABLE = 0.05
# A study that nothing is doubtful about still has this weight, so that a new kind of study is not passed over.
_LEAST_WEIGHT = 0.1


@dataclass(frozen=True, kw_only=True)
class Query:
    """A study to annotate: its place from 1, its doubt and its distance to what is known, both in 0..1, and why."""

    place: int
    name: str
    doubt: float
    distance: float
    reason: str


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pool:
    names: list[str]
    doubts: Numbers
    embeddings: Numbers


def query(folder: Path, count: int, known: Path | None = None, scale: Scale | None = None) -> list[Query]:
    """Return the `count` studies to annotate first.

    Args:
        folder: predictions of unlabelled studies.
        count: how many to choose; all, where there are fewer.
        known: predictions of studies that are annotated already, to keep away from.
        scale: from tumour logit to probability, the calibration's.

    Raises:
        FileNotFoundError: a folder holds no prediction.
        ValueError: a prediction holds no embedding.
    """
    pool = _pool(folder, scale or Scale())
    others = _pool(known, scale or Scale()).embeddings if known else np.zeros((0, pool.embeddings.shape[1]))
    every = np.concatenate([pool.embeddings, others])
    centre, spread = every.mean(axis=0), np.maximum(every.std(axis=0), 1e-6)
    apart = (pool.embeddings - centre) / spread
    # Distances count in the usual distance between two studies of the pool.
    unit = max(float(np.median(cdist(apart, apart))), 1e-6)
    ranks = _ranks(pool.doubts)
    doubt = ranks.mean(axis=1)
    near = cdist(apart, (others - centre) / spread).min(axis=1) / unit if len(others) else np.ones(len(apart))
    chosen: list[Query] = []
    left = np.ones(len(apart), dtype=bool)
    for place in range(1, min(count, len(apart)) + 1):
        gain = np.where(left, np.maximum(doubt, _LEAST_WEIGHT) * near, -1.0)
        best = int(np.argmax(gain))
        chosen.append(
            Query(
                place=place,
                name=pool.names[best],
                doubt=float(doubt[best]),
                distance=float(min(near[best], 1.0)),
                reason=_reason(ranks[best], float(near[best])),
            )
        )
        left[best] = False
        near = np.minimum(near, cdist(apart, apart[best : best + 1])[:, 0] / unit)
    return chosen


def _reason(ranks: Numbers, distance: float) -> str:
    """Return what speaks for a study in words."""
    worst = int(np.argmax(ranks))
    parts = [DOUBTS[worst]] if ranks[worst] > 0.5 else []
    if distance >= 1:
        parts.append("it is unlike the studies chosen or annotated so far")
    return "; ".join(parts) or "the best of what is left"


def _ranks(doubts: Numbers) -> Numbers:
    """Return each doubt (n, kinds) as the share of studies that have less of it, ties in the middle."""
    n = len(doubts)
    return np.asarray((rankdata(doubts, axis=0) - 0.5) / n if n > 1 else np.full_like(doubts, 0.5))


def _pool(folder: Path, scale: Scale) -> _Pool:
    names, doubts, embeddings = [], [], []
    for path in paths_in(folder):
        read = Prediction.load(path)
        if not read.embedding.size:
            raise ValueError(f"prediction {path.name} holds no embedding; predict that study again")
        names.append(read.name)
        doubts.append(list(_doubts(read, scale)))
        embeddings.append(read.embedding)
    return _Pool(names=names, doubts=np.array(doubts), embeddings=np.stack(embeddings).astype(np.float64))


def _doubts(read: Prediction, scale: Scale) -> Iterator[float]:
    """Yield the doubts in the order of DOUBTS, each higher where the model knows less."""
    passes = scale(read.tumour_logits)
    yield -abs(float(passes.mean()) - 0.5)
    yield float(passes.std())
    region = read.probability >= _CONCEIVABLE
    for doubt in (read.entropy, read.mutual_information):
        yield float(doubt[region].astype(np.float64).mean()) if region.any() else 0.0


def save(chosen: Sequence[Query], out: Path) -> None:
    """Write `out`.csv and `out`.json."""
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = [asdict(item) for item in chosen]
    out.with_suffix(".json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    with out.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=["place", "name", "doubt", "distance", "reason"])
        writer.writeheader()
        writer.writerows(rows)
