"""Which job is worked on next, and by whom alone: the conditions, and the locks of a server with many writers.

Who changes a study's jobs holds the study's row until the transaction ends (`hold`): what they read of its other jobs
is then true when they write. Whoever waited for it reads anew. SQLite has one writer, and ignores the locks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    ScalarSelect,
    Select,
    bindparam,
    func,
    literal,
    or_,
    select,
    true,
)
from sqlalchemy.orm import Session, aliased

from daemon.domain.handling import Priority, Resource
from daemon.domain.job import JobState, Lease
from daemon.domain.pause import Activity
from daemon.ledger.few import in_state
from daemon.ledger.pauses import paused
from daemon.ledger.tables import JobRow, StudyRow
from daemon.ledger.types import Moment

When = datetime | BindParameter[datetime]
Which = Callable[[When, Resource | None], ColumnElement[bool]]
_AT = bindparam("at", type_=Moment())
_OTHERS = select(
    select(JobRow.id).where(JobRow.study_uid == bindparam("study"), JobRow.id != bindparam("number")).exists()
)
# Jobs that others took between two looks, before we come again later.
_LOOKS = 8


def lapsed(at: When, resource: Resource | None = None) -> ColumnElement[bool]:
    """Return the condition that a job, of one resource or whatever, was begun, and its worker's lease ran out."""
    return in_state(JobState.IN_PROGRESS) & (JobRow.lease_until < at) & _allowed(resource)


def due(at: When, resource: Resource | None = None) -> ColumnElement[bool]:
    """Return the condition that a job, of one resource or whatever, waits for nobody but a worker."""
    other = aliased(JobRow)
    held = akin(other, JobRow) & (other.id < JobRow.id) & _is(other, JobState.IN_PROGRESS)
    stale = akin(other, JobRow) & (other.id > JobRow.id) & _is(other, JobState.SCHEDULED)
    told = refused(other, JobRow) & _is(other, JobState.IN_PROGRESS)
    # One look at the study's few jobs, for each job whose turn it would be. Not by EXISTS: that PostgreSQL may turn
    # into a join of all jobs with all.
    in_the_way = select(other.id).where(other.study_uid == JobRow.study_uid, or_(held, stale, told)).limit(1)
    waiting = in_state(JobState.SCHEDULED) & (JobRow.not_before <= at)
    return waiting & in_the_way.scalar_subquery().is_(None) & _allowed(resource)


def ready(at: datetime, resource: Resource | None = None) -> ColumnElement[bool]:
    """Return the condition that a job is to be taken, for either reason."""
    return or_(lapsed(at, resource), due(at, resource))


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """How urgent the most urgent jobs to take are, that were begun and `left`, and that are `due`; None without any."""

    left: int | None
    due: int | None


def waits(session: Session, at: datetime, resource: Resource | None) -> Waiting | None:
    """Return which jobs there are to take, None where there are none."""
    left, waiting = session.execute(_waits(resource), {"at": at}).one()
    return None if left is None and waiting is None else Waiting(left=left, due=waiting)


def oldest(session: Session, at: datetime, resource: Resource | None, known: Waiting) -> JobRow | None:
    """Return the most urgent job, of those one that was begun and left, else the oldest that is due; its study held.

    One whose study another holds at this moment is passed over. Each question is answered by an index, in its order: a
    thousand jobs that wait are not sorted for one. What was not `known` to be there is not asked for.
    """
    either = ((lapsed, known.left), (due, known.due))
    wanted = (
        _taken(session, which, {"at": at, "priority": priority.value}, resource)
        for priority in sorted(Priority, reverse=True)
        for which, most in either
        if most is not None and priority <= most
    )
    return next((job for job in wanted if job), None)


def _taken(session: Session, which: Which, values: dict[str, Any], resource: Resource | None) -> JobRow | None:
    first, again = _first(which, resource), _again(which, resource)
    for _ in range(_LOOKS):
        number = session.scalar(first, values)
        if number is None:
            return None
        # Another may have taken it, or one of its study, or renewed its lease, before we held the study.
        job = session.scalar(again, {"at": values["at"], "number": number})
        if job is not None:
            return job
    return None


# Made once for each resource: making them anew takes longer than asking them.
@cache
def _waits(resource: Resource | None) -> Select[int | None, int | None]:
    return select(_most_urgent(lapsed(_AT, resource)), _most_urgent(due(_AT, resource)))


def _most_urgent(wanted: ColumnElement[bool]) -> ScalarSelect[int]:
    return select(JobRow.priority).where(wanted).order_by(JobRow.priority.desc()).limit(1).scalar_subquery()


@cache
def _first(which: Which, resource: Resource | None) -> Select[int]:
    return (
        select(JobRow.id)
        .join(StudyRow, StudyRow.uid == JobRow.study_uid)
        .where(JobRow.priority == bindparam("priority"), which(_AT, resource))
        .order_by(JobRow.created_at, JobRow.id)
        .limit(1)
        .with_for_update(of=StudyRow, key_share=True, skip_locked=True)
    )


@cache
def _again(which: Which, resource: Resource | None) -> Select[JobRow]:
    same = select(JobRow).where(JobRow.id == bindparam("number"), which(_AT, resource))
    return same.with_for_update(of=JobRow, key_share=True)


def hold(session: Session, job: int) -> None:
    """Keep others from the jobs of a job's study, and from adding to it, until the transaction ends."""
    study = select(JobRow.study_uid).where(JobRow.id == job).scalar_subquery()
    session.execute(select(StudyRow.uid).where(StudyRow.uid == study).with_for_update(key_share=True))


def accompanied(session: Session, job: JobRow) -> bool:
    """Return whether a job's study has others, of whatever state; most have none, of which no more is to be asked."""
    return bool(session.scalar(_OTHERS, {"study": job.study_uid, "number": job.id}))


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
