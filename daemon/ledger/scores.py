"""Answers' numbers in the ledger: how they are spread, and how far they drift."""

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, case, func, select
from sqlalchemy.orm import Session

from daemon.domain.drift import REFERENCE, WINDOW, Drift, Quantity, Scores, Spread, drifts, scores
from daemon.domain.finding import Findings
from daemon.ledger.engine import reading
from daemon.ledger.tables import JobRow, ScoreRow

# The newest rows, which others that are being written may still come between.
_UNSETTLED = 1000
# The column takes no NULL, and no risk is infinite.
_NO_RISK = math.inf
Counts = tuple[float, ...]
TENTHS = tuple(n / 10 for n in range(1, 10))
_COLUMNS = {
    Quantity.PROBABILITY: ScoreRow.probability,
    Quantity.RISK: ScoreRow.risk,
    Quantity.VOLUME: ScoreRow.volume_ml,
    Quantity.ENTROPY: ScoreRow.entropy,
    Quantity.NOVELTY: ScoreRow.novelty,
}


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """The tumour probabilities of all answers of a model: how many are at most each of `TENTHS`, all, their sum."""

    model: str
    version: str
    up_to: tuple[int, ...]
    count: int
    total: float


class ScoreBook:
    """Reads answers' numbers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def drift(self, digest: str, given: Mapping[Quantity, Spread]) -> tuple[Drift, ...]:
        """Return how far a bundle's newest answers are from its reference: `given`, else the site's first answers."""
        query = select(ScoreRow.id, *_COLUMNS.values()).where(ScoreRow.bundle_digest == digest)
        with reading(self._engine) as session:
            first = session.execute(query.order_by(ScoreRow.id).limit(REFERENCE)).all()
            last = session.execute(query.order_by(ScoreRow.id.desc()).limit(WINDOW)).all()
        later = first[-1].id if first else 0
        beyond = [row for row in last if row.id > later]
        # What the bundle gives no reference for is held against the first answers, of which none may be in the window.
        of_bundle = {drift.quantity: drift for drift in drifts(given, (), _scores(last))}
        of_site = {drift.quantity: drift for drift in drifts({}, _scores(first), _scores(beyond))}
        return tuple((of_bundle if quantity in given else of_site)[quantity] for quantity in Quantity)


class Histograms:
    """The tumour probabilities of all answers by model; what was counted once is not counted again."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._settled: dict[str, Counts] = {}
        self._until = 0

    def now(self) -> list[Histogram]:
        """Return them as they are now."""
        with self._lock, reading(self._engine) as session:
            newest = session.scalar(select(func.max(ScoreRow.id))) or 0
            cut = max(newest - _UNSETTLED, self._until)
            self._settled = _added(self._settled, _counts(session, self._until, cut))
            self._until = cut
            counts = _added(self._settled, _counts(session, cut, newest))
            return _histograms(session, counts)


def score_row(job: JobRow, findings: Findings) -> ScoreRow:
    """Return the row of a job's answer."""
    found = {Quantity.RISK: _NO_RISK, **scores(findings)}
    values = {column.key: found.get(quantity) for quantity, column in _COLUMNS.items()}
    return ScoreRow(job_id=job.id, bundle_digest=job.bundle_digest, **values)


def _scores(rows: Sequence[object]) -> list[Scores]:
    found: list[Scores] = []
    for row in rows:
        values = {quantity: getattr(row, column.key) for quantity, column in _COLUMNS.items()}
        found.append({quantity: value for quantity, value in values.items() if value not in {None, _NO_RISK}})
    return found


def _counts(session: Session, after: int, until: int) -> dict[str, Counts]:
    """Return, by digest, of the rows after one and up to another: a job, how many, sum, how many up to each tenth."""
    below = [func.sum(case((ScoreRow.probability <= tenth, 1), else_=0)) for tenth in TENTHS]
    columns = [func.max(ScoreRow.job_id), func.count(), func.sum(ScoreRow.probability), *below]
    query = select(ScoreRow.bundle_digest, *columns).where(ScoreRow.id > after, ScoreRow.id <= until)
    rows = session.execute(query.group_by(ScoreRow.bundle_digest)).all() if until > after else []
    return {str(row[0]): tuple(row[1:]) for row in rows}


def _added(one: Mapping[str, Counts], other: Mapping[str, Counts]) -> dict[str, Counts]:
    nothing = (0,) * (3 + len(TENTHS))
    pairs = {digest: (one.get(digest, nothing), other.get(digest, nothing)) for digest in {**one, **other}}
    return {
        digest: (max(a[0], b[0]), *(x + y for x, y in zip(a[1:], b[1:], strict=True)))
        for digest, (a, b) in pairs.items()
    }


def _histograms(session: Session, counts: Mapping[str, Counts]) -> list[Histogram]:
    """Return them by name and version, which bundles of several digests may share."""
    named: dict[tuple[str, str], list[Counts]] = {}
    for one in counts.values():
        job = select(JobRow.bundle, JobRow.bundle_version).where(JobRow.id == one[0])
        model, version = session.execute(job).one()
        named.setdefault((model, version), []).append(one)
    return [_histogram(name, [sum(parts) for parts in zip(*found, strict=True)]) for name, found in named.items()]


def _histogram(name: tuple[str, str], counts: Sequence[float]) -> Histogram:
    _, count, total, *up_to = counts
    return Histogram(
        model=name[0],
        version=name[1],
        up_to=tuple(int(n) for n in up_to),
        count=int(count),
        total=float(total),
    )
