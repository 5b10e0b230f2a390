"""Figures of the whole ledger, by indexes alone; no patient is in any of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from daemon.domain.delivery import DeliveryState
from daemon.domain.job import JobState
from daemon.ledger.engine import reading
from daemon.ledger.few import REFUSED, in_state
from daemon.ledger.tables import DeliveryRow, InstanceRow, JobRow, OutputRow, StudyRow


@dataclass(frozen=True, kw_only=True)
class JobCount:
    """How many jobs are alike; `answer` is empty where there is none, `reason` where the job did not fail."""

    state: str
    bundle: str
    version: str
    answer: str
    reason: str
    count: int


@dataclass(frozen=True, kw_only=True)
class DeliveryCount:
    """How many deliveries are alike."""

    destination: str
    state: str
    count: int


@dataclass(frozen=True, kw_only=True)
class Recent:
    """What came in, and what was answered, since a time.

    `seconds` are those from a study's last instance to the sending of its last result, ordered; sent again does not
    count, nor does a study of which instances came since.
    """

    studies: int
    instances: int
    seconds: tuple[float, ...]

    def quantile(self, share: float) -> float | None:
        """Return the seconds within which `share` of the answers were sent, None where there were none."""
        if not self.seconds:
            return None
        return self.seconds[min(len(self.seconds) - 1, round(share * (len(self.seconds) - 1)))]


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The ledger in figures: `instances` are all ever recorded, `oldest_*` is when the head of a queue came."""

    jobs: tuple[JobCount, ...]
    deliveries: tuple[DeliveryCount, ...]
    refusals: dict[str, int]
    studies: int
    instances: int
    oldest_job: datetime | None
    oldest_delivery: datetime | None
    recent: Recent

    def jobs_in(self, state: JobState) -> int:
        """Return how many jobs are in a state."""
        return sum(job.count for job in self.jobs if job.state == state.value)

    def deliveries_in(self, state: DeliveryState) -> int:
        """Return how many deliveries are in a state."""
        return sum(delivery.count for delivery in self.deliveries if delivery.state == state.value)


def figures(engine: Engine, since: datetime, *, settled: bool = True) -> Figures:
    """Return the ledger in figures; what is recent is so since `since`.

    `settled` counts what is COMPLETED or CONFIRMED too: nearly all of a large ledger, so it takes longest.
    """
    job_states = [state.value for state in JobState if settled or state is not JobState.COMPLETED]
    delivery_states = [state.value for state in DeliveryState if settled or state is not DeliveryState.CONFIRMED]
    with reading(engine) as session:
        return Figures(
            jobs=_jobs(session, job_states),
            deliveries=_deliveries(session, delivery_states),
            refusals=_refusals(session),
            studies=session.scalar(select(func.count()).select_from(StudyRow)) or 0,
            # Rows are never deleted: the newest one's number is their number.
            instances=session.scalar(select(func.max(InstanceRow.id))) or 0,
            oldest_job=session.scalar(select(func.min(JobRow.created_at)).where(in_state(JobState.SCHEDULED))),
            oldest_delivery=session.scalar(
                select(func.min(DeliveryRow.created_at)).where(DeliveryRow.state == DeliveryState.PENDING.value)
            ),
            recent=_recent(session, since),
        )


def dead_by_destination(engine: Engine, states: Sequence[DeliveryState]) -> dict[str, int]:
    """Return how many deliveries are in one of these states, by destination."""
    counts: dict[str, int] = {}
    with reading(engine) as session:
        for found in _deliveries(session, [state.value for state in states]):
            counts[found.destination] = counts.get(found.destination, 0) + found.count
    return counts


def failed_since(engine: Engine, since: datetime) -> int:
    """Return how many jobs failed since a time and were not retried."""
    failed = (JobRow.state == JobState.FAILED.value, JobRow.finished_at >= since)
    with reading(engine) as session:
        return session.scalar(select(func.count()).select_from(JobRow).where(*failed)) or 0


def _jobs(session: Session, states: Sequence[str]) -> tuple[JobCount, ...]:
    alike = (JobRow.state, JobRow.bundle, JobRow.bundle_version, JobRow.answer, JobRow.reason)
    rows = session.execute(
        select(*alike, func.count()).where(JobRow.state.in_(states)).group_by(*alike).order_by(*alike)
    ).all()
    return tuple(
        JobCount(state=state, bundle=bundle, version=version, answer=answer, reason=reason, count=count)
        for state, bundle, version, answer, reason, count in rows
    )


def _deliveries(session: Session, states: Sequence[str]) -> tuple[DeliveryCount, ...]:
    alike = (DeliveryRow.state, DeliveryRow.destination)
    query = select(*alike, func.count()).where(DeliveryRow.state.in_(states)).group_by(*alike).order_by(*alike)
    rows = session.execute(query).all()
    return tuple(DeliveryCount(destination=name, state=state, count=count) for state, name, count in rows)


def _refusals(session: Session) -> dict[str, int]:
    refused = select(StudyRow.refusal, func.count()).where(REFUSED).group_by(StudyRow.refusal)
    return {str(reason): int(count) for reason, count in session.execute(refused).all()}


def _recent(session: Session, since: datetime) -> Recent:
    came = select(func.count(), func.sum(StudyRow.instances)).where(StudyRow.first_at >= since)
    studies, instances = session.execute(came).one()
    return Recent(studies=studies, instances=int(instances or 0), seconds=tuple(sorted(_seconds(session, since))))


def _seconds(session: Session, since: datetime) -> Sequence[float]:
    # A delivery that was replayed has begun anew, later than its job ended.
    query = (
        select(func.max(DeliveryRow.sent_at), StudyRow.last_at)
        .join(OutputRow, OutputRow.id == DeliveryRow.output_id)
        .join(JobRow, JobRow.id == OutputRow.job_id)
        .join(StudyRow, StudyRow.uid == JobRow.study_uid)
        .where(DeliveryRow.sent_at >= since, DeliveryRow.created_at == JobRow.finished_at)
        .where(StudyRow.last_at <= JobRow.created_at)
        .group_by(JobRow.id, StudyRow.last_at)
    )
    return [(sent - last).total_seconds() for sent, last in session.execute(query).all() if sent]
