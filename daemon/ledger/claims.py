"""Which job is worked on next, and by whom alone: the conditions, and the locks of a server with many writers.

Who changes a study's jobs holds the study's row until the transaction ends (`hold`): what they read of its other jobs
is then true when they write. Whoever waited for it reads anew. SQLite has one writer, and ignores the locks.
"""

from datetime import datetime

from sqlalchemy import ColumnElement, Select, exists, func, literal, or_, select, true
from sqlalchemy.orm import Session, aliased

from daemon.domain.handling import Priority, Resource
from daemon.domain.job import JobState, Lease
from daemon.domain.pause import Activity
from daemon.ledger.pauses import paused
from daemon.ledger.tables import JobRow, StudyRow

# Jobs that others took between two looks, before we come again later.
_LOOKS = 8


def lapsed(at: datetime, resource: Resource | None = None) -> ColumnElement[bool]:
    """Return the condition that a job, of one resource or whatever, was begun, and its worker's lease ran out."""
    return (JobRow.state == JobState.IN_PROGRESS.value) & (JobRow.lease_until < at) & _allowed(resource)


def due(at: datetime, resource: Resource | None = None) -> ColumnElement[bool]:
    """Return the condition that a job, of one resource or whatever, waits for nobody but a worker."""
    elder, younger = aliased(JobRow), aliased(JobRow)
    held = exists().where(akin(elder, JobRow), elder.id < JobRow.id, _is(elder, JobState.IN_PROGRESS))
    stale = exists().where(akin(younger, JobRow), younger.id > JobRow.id, _is(younger, JobState.SCHEDULED))
    told = exists().where(refused(elder, JobRow), _is(elder, JobState.IN_PROGRESS))
    waiting = (JobRow.state == JobState.SCHEDULED.value) & (JobRow.not_before <= at)
    return waiting & ~held & ~stale & ~told & _allowed(resource)


def ready(at: datetime, resource: Resource | None = None) -> ColumnElement[bool]:
    """Return the condition that a job is to be taken, for either reason."""
    return or_(lapsed(at, resource), due(at, resource))


def waits(session: Session, at: datetime, resource: Resource | None) -> bool:
    """Return whether there is a job to take."""
    either = (lapsed(at, resource), due(at, resource))
    return any(session.scalar(select(JobRow.id).where(one).limit(1)) for one in either)


def oldest(session: Session, at: datetime, resource: Resource | None) -> JobRow | None:
    """Return the most urgent job, of those one that was begun and left, else the oldest that is due; its study held.

    One whose study another holds at this moment is passed over. Each question is answered by an index, in its order: a
    thousand jobs that wait are not sorted for one.
    """
    either = (lapsed(at, resource), due(at, resource))
    wanted = (
        (JobRow.priority == priority.value) & one for priority in sorted(Priority, reverse=True) for one in either
    )
    return next((job for one in wanted if (job := _taken(session, one))), None)


def _taken(session: Session, wanted: ColumnElement[bool]) -> JobRow | None:
    found = (
        select(JobRow.id)
        .join(StudyRow, StudyRow.uid == JobRow.study_uid)
        .where(wanted)
        .order_by(JobRow.created_at, JobRow.id)
        .limit(1)
        .with_for_update(of=StudyRow, key_share=True, skip_locked=True)
    )
    for _ in range(_LOOKS):
        number = session.scalar(found)
        if number is None:
            return None
        # Another may have taken it, or one of its study, or renewed its lease, before we held the study.
        again = select(JobRow).where(JobRow.id == number, wanted)
        job = session.scalar(again.with_for_update(of=JobRow, key_share=True))
        if job is not None:
            return job
    return None


def hold(session: Session, job: int) -> None:
    """Keep others from the jobs of a job's study, and from adding to it, until the transaction ends."""
    study = select(JobRow.study_uid).where(JobRow.id == job).scalar_subquery()
    session.execute(select(StudyRow.uid).where(StudyRow.uid == study).with_for_update(key_share=True))


def leased(session: Session, lease: Lease) -> JobRow | None:
    """Return the job of a lease, its study held; None where the lease is another's by now."""
    hold(session, lease.job_id)
    return session.scalar(
        select(JobRow).where(
            JobRow.id == lease.job_id, JobRow.fence == lease.fence, JobRow.state == JobState.IN_PROGRESS
        )
    )


def akin(other: type[JobRow], job: JobRow | type[JobRow]) -> ColumnElement[bool]:
    """Return the condition that `other` reads the study of `job` with its bundle, of whatever version."""
    return (other.study_uid == job.study_uid) & (other.bundle == job.bundle) & (other.refusal == "")


def refused(other: type[JobRow], job: JobRow | type[JobRow]) -> ColumnElement[bool]:
    """Return the condition that `other` reports a refusal that `job` follows: of its bundle, or without any."""
    mine = literal(job.bundle) if isinstance(job, JobRow) else job.bundle
    same = or_(other.bundle == mine, other.bundle == "", mine == "")
    return (other.study_uid == job.study_uid) & (other.id != job.id) & (other.refusal != "") & same


def _allowed(resource: Resource | None) -> ColumnElement[bool]:
    wanted = true() if resource is None else JobRow.resource == resource.value
    return wanted & ~paused(Activity.JOBS)


def _is(other: type[JobRow], state: JobState) -> ColumnElement[bool]:
    """Return the condition that a job of the same study is in `state`; not to be looked up by, as very many may be."""
    return func.coalesce(other.state, "") == state.value


def before(job: JobRow, state: JobState) -> Select[JobRow]:
    """Return the query for jobs in `state` that `job` supersedes, the oldest first."""
    older = select(JobRow).where(akin(JobRow, job), JobRow.id < job.id, JobRow.state == state)
    return older.order_by(JobRow.id)
