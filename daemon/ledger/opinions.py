"""What people ask of feedback: lists, and how often each model was right; read only."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median

from sqlalchemy import Engine, Select, select
from sqlalchemy.orm import Session

from daemon.domain.feedback import FeedbackKind, FeedbackState, accepts
from daemon.domain.instance import Instance
from daemon.domain.output import OutputKind
from daemon.ledger.engine import reading
from daemon.ledger.parts import parts
from daemon.ledger.rows import instance_of
from daemon.ledger.tables import FeedbackRow, InstanceRow, JobRow, OutputRow


@dataclass(frozen=True, kw_only=True)
class FeedbackView:
    """A piece of feedback; `model` and `version` are empty where it is of no result, `by` is who it came from."""

    id: int
    kind: str
    state: str
    at: datetime
    by: str
    study_instance_uid: str
    job_id: int | None
    model: str
    version: str
    evidence: str
    dice: float | None
    ml: float | None
    sop_instance_uid: str | None
    digest: str | None
    freed: bool
    exported_at: datetime | None
    detail: str


@dataclass(frozen=True, kw_only=True)
class ModelStats:
    """Feedback on one model's answers, each answer by the newest piece of feedback on it.

    `accepted` were left as they are: accepted, or corrected by next to nothing. `acceptance` is their share, None
    without any; `dice` is the median between our outline and the correction, of the answers whose newest is one.
    """

    model: str
    version: str
    answers: int
    accepted: int
    rejected: int
    corrected: int
    dice: float | None

    @property
    def acceptance(self) -> float | None:
        """Return the share of accepted answers."""
        return self.accepted / self.answers if self.answers else None


@dataclass(frozen=True, kw_only=True)
class Bequest:
    """A correction with what it was drawn on: the instances that its job read, and our own SEG, where it made one."""

    view: FeedbackView
    instances: tuple[Instance, ...]
    freed: int
    ours: str | None


@dataclass(kw_only=True)
class Tally:
    """All feedback on one model, for counters: how many of each kind, and the Dice of every correction."""

    kinds: dict[str, int] = field(default_factory=dict)
    dice: list[float] = field(default_factory=list)


class Opinions:
    """Reads feedback for people."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def listed(self, *, study: str | None = None, state: str | None = None, limit: int = 100) -> list[FeedbackView]:
        """Return the newest first."""
        query = _VIEWS.order_by(FeedbackRow.id.desc()).limit(limit)
        query = query.where(FeedbackRow.study_uid == study) if study else query
        query = query.where(FeedbackRow.state == state) if state else query
        with reading(self._engine) as session:
            return _views(session, query)

    def one(self, feedback: int) -> FeedbackView | None:
        """Return one piece."""
        with reading(self._engine) as session:
            found = _views(session, _VIEWS.where(FeedbackRow.id == feedback))
        return found[0] if found else None

    def stats(self) -> list[ModelStats]:
        """Return how each model fares."""
        newest: dict[int, FeedbackView] = {view.job_id: view for view in self.linked() if view.job_id is not None}
        models: dict[tuple[str, str], list[FeedbackView]] = {}
        for view in newest.values():
            models.setdefault((view.model, view.version), []).append(view)
        return [_stats(model, version, views) for (model, version), views in sorted(models.items())]

    def tallies(self) -> dict[tuple[str, str], Tally]:
        """Return all feedback by model and version."""
        found: dict[tuple[str, str], Tally] = {}
        for view in self.linked():
            tally = found.setdefault((view.model, view.version), Tally())
            tally.kinds[view.kind] = tally.kinds.get(view.kind, 0) + 1
            if view.dice is not None:
                tally.dice.append(view.dice)
        return found

    def bequests(self, *, again: bool = False) -> list[Bequest]:
        """Return the newest correction of each answer that was not exported yet; with `again`, exported ones too."""
        corrections = (v for v in self.linked() if v.kind == FeedbackKind.CORRECTION)
        newest = {view.job_id: view for view in corrections}
        wanted = [v for v in newest.values() if not v.freed and (again or v.exported_at is None)]
        with reading(self._engine) as session:
            return [_bequest(session, view) for view in wanted]

    def linked(self) -> list[FeedbackView]:
        """Return feedback on results, the newest last."""
        query = _VIEWS.where(FeedbackRow.state == FeedbackState.LINKED.value)
        with reading(self._engine) as session:
            return _views(session, query.order_by(FeedbackRow.at, FeedbackRow.id))


_VIEWS = select(FeedbackRow, JobRow.bundle, JobRow.bundle_version).outerjoin(JobRow, JobRow.id == FeedbackRow.job_id)


def _views(session: Session, query: Select[FeedbackRow, str, str]) -> list[FeedbackView]:
    return [
        FeedbackView(
            id=row.id,
            kind=row.kind,
            state=row.state,
            at=row.at,
            by=row.by,
            study_instance_uid=row.study_uid,
            job_id=row.job_id,
            model=model or "",
            version=version or "",
            evidence=row.evidence,
            dice=row.dice,
            ml=row.ml,
            sop_instance_uid=row.sop_instance_uid,
            digest=row.digest,
            freed=row.freed,
            exported_at=row.exported_at,
            detail=row.detail,
        )
        for row, model, version in session.execute(query).all()
    ]


def _stats(model: str, version: str, views: Sequence[FeedbackView]) -> ModelStats:
    dice = [view.dice for view in views if view.dice is not None]
    kinds = [FeedbackKind(view.kind) for view in views]
    return ModelStats(
        model=model,
        version=version,
        answers=len(views),
        accepted=sum(accepts(FeedbackKind(view.kind), view.dice) for view in views),
        rejected=kinds.count(FeedbackKind.REJECTED),
        corrected=kinds.count(FeedbackKind.CORRECTION),
        dice=median(dice) if dice else None,
    )


def _bequest(session: Session, view: FeedbackView) -> Bequest:
    job = session.get_one(JobRow, view.job_id)
    rows = list(_instances(session, list(map(str, job.digests))))
    of_job = (OutputRow.job_id == job.id) & (OutputRow.kind == OutputKind.SEGMENTATION.value) & ~OutputRow.freed
    return Bequest(
        view=view,
        instances=tuple(instance_of(row.facts) for row in rows if not row.freed),
        freed=sum(row.freed for row in rows),
        ours=session.scalar(select(OutputRow.digest).where(of_job)),
    )


def _instances(session: Session, digests: Sequence[str]) -> Iterable[InstanceRow]:
    for some in parts(digests):
        yield from session.scalars(select(InstanceRow).where(InstanceRow.digest.in_(some)))
