"""What administrators ask the ledger; read only."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, Row, exists, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from daemon.ledger.engine import reading
from daemon.ledger.few import CONFLICTING
from daemon.ledger.parts import parts
from daemon.ledger.tables import DeliveryRow, InstanceRow, JobRow, OutputRow, StudyRow, TransitionRow


@dataclass(frozen=True, kw_only=True)
class StudyView:
    """A study in a list."""

    study_instance_uid: str
    instances: int
    conflicts: int
    last_at: datetime
    verdict: str
    evidence: str
    refusal: str
    jobs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class JobView:
    """A job, with its findings as they were committed."""

    id: int
    study_instance_uid: str
    bundle: str
    version: str
    bundle_digest: str
    series: dict[str, str]
    state: str
    reason: str
    detail: str
    attempts: int
    created_at: datetime
    finished_at: datetime | None
    supersedes: int | None
    refusal: str
    findings: dict[str, Any]
    seconds: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class OutputView:
    """An output and where it went."""

    id: int
    job_id: int
    kind: str
    sop_instance_uid: str
    digest: str
    size: int
    deliveries: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class DeliveryView:
    """A delivery."""

    id: int
    output_id: int
    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    destination: str
    state: str
    attempts: int
    due_at: datetime
    detail: str


@dataclass(frozen=True, kw_only=True)
class Event:
    """A line of the audit table."""

    at: datetime
    subject: str
    subject_id: int
    old: str
    new: str
    detail: str


class Queries:
    """Reads the ledger for people."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def counts(self) -> dict[str, dict[str, int]]:
        """Return how many instances, studies, jobs by state and deliveries by state there are."""
        with reading(self._engine) as session:
            return {
                "instances": {"stored": session.scalar(select(func.count()).select_from(InstanceRow)) or 0},
                "studies": {"known": session.scalar(select(func.count()).select_from(StudyRow)) or 0},
                "jobs": _by_state(session, JobRow),
                "deliveries": _by_state(session, DeliveryRow),
            }

    def studies(self, limit: int = 100) -> list[StudyView]:
        """Return the newest studies first."""
        newest = select(StudyRow).order_by(StudyRow.first_at.desc(), StudyRow.uid.desc()).limit(limit)
        with reading(self._engine) as session:
            rows = session.scalars(newest).all()
            return [view for part in parts(rows) for view in _studies(session, part)]

    def study(self, uid: str) -> StudyView | None:
        """Return one study."""
        with reading(self._engine) as session:
            row = session.get(StudyRow, uid)
            return None if row is None else _studies(session, [row])[0]

    def jobs(self, *, study: str | None = None, state: str | None = None, limit: int = 100) -> list[JobView]:
        """Return the newest jobs first."""
        query = select(JobRow).order_by(JobRow.id.desc()).limit(limit)
        query = query.where(JobRow.study_uid == study) if study else query
        query = query.where(JobRow.state == state) if state else query
        with reading(self._engine) as session:
            return [_job(row) for row in session.scalars(query).all()]

    def job(self, job_id: int) -> JobView | None:
        """Return one job."""
        with reading(self._engine) as session:
            row = session.get(JobRow, job_id)
            return None if row is None else _job(row)

    def outputs(self, *, job: int | None = None, limit: int = 100) -> list[OutputView]:
        """Return the newest outputs first."""
        query = select(OutputRow).order_by(OutputRow.id.desc()).limit(limit)
        query = query.where(OutputRow.job_id == job) if job else query
        with reading(self._engine) as session:
            return [_output(session, row) for row in session.scalars(query).all()]

    def output(self, output_id: int) -> OutputView | None:
        """Return one output."""
        with reading(self._engine) as session:
            row = session.get(OutputRow, output_id)
            return None if row is None else _output(session, row)

    def deliveries(
        self, *, state: str | None = None, destination: str | None = None, limit: int = 100
    ) -> list[DeliveryView]:
        """Return the newest deliveries first."""
        query = _DELIVERIES.order_by(DeliveryRow.id.desc()).limit(limit)
        query = query.where(DeliveryRow.state == state) if state else query
        query = query.where(DeliveryRow.destination == destination) if destination else query
        with reading(self._engine) as session:
            return [_delivery(*found) for found in session.execute(query).all()]

    def undelivered(self) -> int:
        """Return how many outputs are of jobs none of which goes anywhere: no destination was configured then."""
        sent = aliased(OutputRow)
        there = exists().where(sent.job_id == OutputRow.job_id, DeliveryRow.output_id == sent.id)
        with reading(self._engine) as session:
            return session.scalar(select(func.count()).select_from(OutputRow).where(~OutputRow.freed, ~there)) or 0

    def delivery(self, delivery_id: int) -> DeliveryView | None:
        """Return one delivery."""
        with reading(self._engine) as session:
            found = session.execute(_DELIVERIES.where(DeliveryRow.id == delivery_id)).one_or_none()
            return None if found is None else _delivery(*found)

    def events(self, subject_id: int, subject: str = "job") -> list[Event]:
        """Return the transitions of a job, or of a delivery, in order."""
        query = select(TransitionRow).where(TransitionRow.subject == subject, TransitionRow.subject_id == subject_id)
        with reading(self._engine) as session:
            return [event(row) for row in session.scalars(query.order_by(TransitionRow.id)).all()]


def event(row: TransitionRow) -> Event:
    """Return a row of the audit table as people see it."""
    return Event(at=row.at, subject=row.subject, subject_id=row.subject_id, old=row.old, new=row.new, detail=row.detail)


_DELIVERIES = select(DeliveryRow, OutputRow).join(OutputRow, OutputRow.id == DeliveryRow.output_id)


def _delivery(row: DeliveryRow, output: OutputRow) -> DeliveryView:
    return DeliveryView(
        id=row.id,
        output_id=row.output_id,
        kind=output.kind,
        sop_class_uid=output.sop_class_uid,
        sop_instance_uid=output.sop_instance_uid,
        destination=row.destination,
        state=row.state,
        attempts=row.attempts,
        due_at=row.due_at,
        detail=row.detail,
    )


def _by_state(session: Session, table: type[JobRow] | type[DeliveryRow]) -> dict[str, int]:
    rows = session.execute(select(table.state, func.count()).group_by(table.state)).all()
    return {str(state): int(count) for state, count in rows}


def _studies(session: Session, rows: Sequence[StudyRow]) -> list[StudyView]:
    uids = [row.uid for row in rows]
    of_each = select(InstanceRow.study_uid, func.count()).where(InstanceRow.study_uid.in_(uids), CONFLICTING)
    conflicts = dict(session.execute(of_each.group_by(InstanceRow.study_uid)).all())
    jobs = jobs_of(session, uids, JobRow.id, JobRow.bundle, JobRow.refusal, JobRow.state)
    return [
        StudyView(
            study_instance_uid=row.uid,
            instances=row.instances,
            conflicts=conflicts.get(row.uid, 0),
            last_at=row.last_at,
            verdict=row.verdict,
            evidence=row.evidence,
            refusal=row.refusal,
            jobs=tuple(f"{job.id} {job.bundle or job.refusal} {job.state}" for job in jobs[row.uid]),
        )
        for row in rows
    ]


def jobs_of(session: Session, uids: Sequence[str], *columns: InstrumentedAttribute[Any]) -> dict[str, list[Row[Any]]]:
    """Return of each study's jobs these columns, the oldest first; `study_uid` is always one of them."""
    found: dict[str, list[Row[Any]]] = {uid: [] for uid in uids}
    query = select(JobRow.study_uid, *columns).where(JobRow.study_uid.in_(uids)).order_by(JobRow.id)
    for job in session.execute(query):
        found[job.study_uid].append(job)
    return found


def _job(row: JobRow) -> JobView:
    return JobView(
        id=row.id,
        study_instance_uid=row.study_uid,
        bundle=row.bundle,
        version=row.bundle_version,
        bundle_digest=row.bundle_digest,
        series=row.series,
        state=row.state,
        reason=row.reason,
        detail=row.detail,
        attempts=row.attempts,
        created_at=row.created_at,
        finished_at=row.finished_at,
        supersedes=row.supersedes,
        refusal=row.refusal,
        findings=row.findings,
        seconds=row.seconds,
    )


def _output(session: Session, row: OutputRow) -> OutputView:
    deliveries = session.scalars(select(DeliveryRow).where(DeliveryRow.output_id == row.id)).all()
    return OutputView(
        id=row.id,
        job_id=row.job_id,
        kind=row.kind,
        sop_instance_uid=row.sop_instance_uid,
        digest=row.digest,
        size=row.size,
        deliveries=tuple(f"{d.destination} {d.state}" for d in deliveries),
    )
