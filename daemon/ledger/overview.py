"""What the console's pages ask the ledger: pages by key, by indexes, in a number of queries that does not grow."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, Select, case, func, or_, select
from sqlalchemy.orm import Session

from daemon.domain.delivery import MISSING
from daemon.domain.job import JobState
from daemon.errors import RefusedError
from daemon.ledger import few
from daemon.ledger.engine import reading
from daemon.ledger.queries import Event, event, jobs_of
from daemon.ledger.tables import DeliveryRow, InquiryRow, InstanceRow, JobRow, OutputRow, StudyRow, TransitionRow

PAGE = 50
WAITING, REFUSED = "waiting", "refused"
# What a list of studies can be narrowed to; those of jobs are of the newest jobs in that state.
STATES = (WAITING, REFUSED, *(state.value for state in JobState))
_LAST = "\U0010ffff"
# More digits are no number of a row (PostgreSQL's and SQLite's have 64 bits).
_LONGEST_NUMBER = 18


@dataclass(frozen=True, kw_only=True)
class JobLine:
    """A job in a list; with a `refusal` it reports why something is not read."""

    id: int
    study_uid: str
    bundle: str
    state: str
    answer: str
    reason: str
    refusal: str


@dataclass(frozen=True, kw_only=True)
class StudyLine:
    """A study in a list; `waiting` while there is news that no decision has seen."""

    uid: str
    first_at: datetime
    last_at: datetime
    instances: int
    waiting: bool
    verdict: str
    evidence: str
    refusal: str
    jobs: tuple[JobLine, ...]


@dataclass(frozen=True, kw_only=True)
class StudyPage:
    """Studies, newest first; `after` is the key of the page that follows, empty where none does."""

    rows: tuple[StudyLine, ...]
    after: str


@dataclass(frozen=True, kw_only=True)
class SeriesLine:
    """A series of a study; `conflicts` came again with other bytes, `kept` are in the spool, conflicts not counted."""

    uid: str
    modality: str
    instances: int
    conflicts: int
    kept: int
    size: int


@dataclass(frozen=True, kw_only=True)
class OutputLine:
    """An output of a job; `freed` once retention has removed its file."""

    id: int
    job_id: int
    kind: str
    sop_instance_uid: str
    size: int
    freed: bool


@dataclass(frozen=True, kw_only=True)
class DeliveryLine:
    """A delivery, with the study that it is of."""

    id: int
    study_uid: str
    job_id: int
    output_id: int
    kind: str
    destination: str
    state: str
    attempts: int
    due_at: datetime
    detail: str


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """A job or a delivery that ended badly."""

    at: datetime
    study_uid: str
    what: str
    why: str


class Overview:
    """Reads the ledger for the console."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def studies(self, prefix: str = "", state: str = "", after: str = "") -> StudyPage:
        """Return a page of the studies whose UID begins with `prefix`, in a state of `STATES`.

        Raises:
            RefusedError: the state or the key is none.
        """
        if state and state not in STATES:
            raise RefusedError(f"{state!r} is no state of a study; one is {', '.join(STATES)}")
        with reading(self._engine) as session:
            if state in set(JobState):
                return _by_jobs(session, prefix, state, after)
            return _by_arrival(session, prefix, state, after)

    def study(self, uid: str) -> StudyLine | None:
        """Return one study."""
        with reading(self._engine) as session:
            row = session.get(StudyRow, uid)
            return None if row is None else _lines(session, [row])[0]

    def series(self, study: str) -> list[SeriesLine]:
        """Return the series of a study."""
        modality = func.max(InstanceRow.facts["acquisition"]["modality"].as_string())
        again = func.sum(case((InstanceRow.conflict, 1), else_=0))
        kept = func.sum(case((or_(InstanceRow.conflict, InstanceRow.freed), 0), else_=1))
        columns = (InstanceRow.series_uid, modality, func.count(), again, kept, func.sum(InstanceRow.size))
        query = select(*columns).where(InstanceRow.study_uid == study).group_by(InstanceRow.series_uid)
        with reading(self._engine) as session:
            rows = session.execute(query.order_by(InstanceRow.series_uid)).all()
        return [
            SeriesLine(
                uid=uid, modality=kind or "", instances=count, conflicts=int(odd), kept=int(there), size=int(size)
            )
            for uid, kind, count, odd, there, size in rows
        ]

    def inquiry(self, study: str) -> str:
        """Return what came of asking the archive about a study, empty where it was not asked."""
        with reading(self._engine) as session:
            row = session.get(InquiryRow, study)
            return "" if row is None else row.detail or "being asked"

    def outputs(self, jobs: Sequence[int]) -> list[OutputLine]:
        """Return the outputs of these jobs."""
        columns = (OutputRow.id, OutputRow.job_id, OutputRow.kind, OutputRow.sop_instance_uid, OutputRow.size)
        query = select(*columns, OutputRow.freed).where(OutputRow.job_id.in_(jobs)).order_by(OutputRow.id)
        with reading(self._engine) as session:
            return [OutputLine(**row._mapping) for row in session.execute(query).all()]  # noqa: SLF001 - SQLAlchemy's API

    def deliveries(self, jobs: Sequence[int]) -> list[DeliveryLine]:
        """Return the deliveries of these jobs' outputs."""
        query = _DELIVERIES.where(OutputRow.job_id.in_(jobs)).order_by(DeliveryRow.id)
        with reading(self._engine) as session:
            return [_delivery(*row) for row in session.execute(query).all()]

    def delivery(self, delivery: int) -> DeliveryLine | None:
        """Return one delivery."""
        with reading(self._engine) as session:
            found = session.execute(_DELIVERIES.where(DeliveryRow.id == delivery)).one_or_none()
            return None if found is None else _delivery(*found)

    def dead_letters(self, limit: int = PAGE) -> list[DeliveryLine]:
        """Return the deliveries that ended without the destination's word, `limit` of each state, the last first."""
        with reading(self._engine) as session:
            rows = [row for state in MISSING for row in session.execute(_ended(state.value, limit)).all()]
        return sorted((_delivery(*row) for row in rows), key=lambda one: (one.due_at, one.id), reverse=True)

    def timeline(self, jobs: Sequence[int], deliveries: Sequence[int]) -> list[Event]:
        """Return every step of these jobs and deliveries, in order."""
        found: list[TransitionRow] = []
        with reading(self._engine) as session:
            for subject, ids in (("job", jobs), ("delivery", deliveries)):
                query = select(TransitionRow).where(TransitionRow.subject_id.in_(ids), TransitionRow.subject == subject)
                found += session.scalars(query).all()
        return [event(row) for row in sorted(found, key=lambda row: (row.at, row.id))]

    def troubles(self, limit: int = 8) -> list[Trouble]:
        """Return the newest failures of jobs and deliveries, newest first."""
        failed = select(JobRow).where(JobRow.state == JobState.FAILED.value).order_by(JobRow.id.desc()).limit(limit)
        with reading(self._engine) as session:
            jobs = [_failure(row) for row in session.scalars(failed).all()]
        letters = [
            Trouble(
                at=one.due_at,
                study_uid=one.study_uid,
                what=f"{one.kind} to {one.destination} is {one.state}",
                why=one.detail,
            )
            for one in self.dead_letters(limit)
        ]
        return sorted([*jobs, *letters], key=lambda one: one.at, reverse=True)[:limit]


_DELIVERIES = (
    select(DeliveryRow, OutputRow, JobRow.study_uid)
    .join(OutputRow, OutputRow.id == DeliveryRow.output_id)
    .join(JobRow, JobRow.id == OutputRow.job_id)
)


def _ended(state: str, limit: int) -> Select[DeliveryRow, OutputRow, str]:
    return _DELIVERIES.where(DeliveryRow.state == state).order_by(DeliveryRow.due_at.desc()).limit(limit)


def _by_arrival(session: Session, prefix: str, state: str, after: str) -> StudyPage:
    query = select(StudyRow).order_by(StudyRow.first_at.desc(), StudyRow.uid.desc()).limit(PAGE + 1)
    if prefix:
        query = query.where(StudyRow.uid >= prefix, StudyRow.uid < prefix + _LAST)
    if state == WAITING:
        query = query.where(*few.WITH_NEWS)
    if state == REFUSED:
        query = query.where(few.REFUSED)
    if after:
        at, uid = _key(after)
        # The first condition is what the index is entered by.
        query = query.where(StudyRow.first_at <= at, or_(StudyRow.first_at < at, StudyRow.uid < uid))
    rows = session.scalars(query).all()
    last = rows[PAGE - 1] if len(rows) > PAGE else None
    return StudyPage(rows=_lines(session, rows[:PAGE]), after=f"{last.first_at.isoformat()}~{last.uid}" if last else "")


def _by_jobs(session: Session, prefix: str, state: str, after: str) -> StudyPage:
    query = select(JobRow.id, JobRow.study_uid).where(JobRow.state == state).order_by(JobRow.id.desc()).limit(PAGE + 1)
    if prefix:
        query = query.where(JobRow.study_uid >= prefix, JobRow.study_uid < prefix + _LAST)
    if after:
        query = query.where(JobRow.id < _number(after))
    found = session.execute(query).all()
    uids = list(dict.fromkeys(uid for _, uid in found[:PAGE]))
    rows = {row.uid: row for row in session.scalars(select(StudyRow).where(StudyRow.uid.in_(uids))).all()}
    return StudyPage(
        rows=_lines(session, [rows[uid] for uid in uids]), after=str(found[PAGE - 1][0]) if len(found) > PAGE else ""
    )


def _lines(session: Session, rows: Sequence[StudyRow]) -> tuple[StudyLine, ...]:
    columns = (JobRow.id, JobRow.bundle, JobRow.state, JobRow.answer, JobRow.reason, JobRow.refusal)
    jobs = jobs_of(session, [row.uid for row in rows], *columns)
    return tuple(
        StudyLine(
            uid=row.uid,
            first_at=row.first_at,
            last_at=row.last_at,
            instances=row.instances,
            waiting=row.dirty,
            verdict=row.verdict,
            evidence=row.evidence,
            refusal=row.refusal,
            jobs=tuple(JobLine(**job._mapping) for job in jobs[row.uid]),  # noqa: SLF001 - SQLAlchemy's API
        )
        for row in rows
    )


def _delivery(row: DeliveryRow, output: OutputRow, study_uid: str) -> DeliveryLine:
    return DeliveryLine(
        id=row.id,
        study_uid=study_uid,
        job_id=output.job_id,
        output_id=output.id,
        kind=output.kind,
        destination=row.destination,
        state=row.state,
        attempts=row.attempts,
        due_at=row.due_at,
        detail=row.detail,
    )


def _failure(row: JobRow) -> Trouble:
    what = f"job {row.id} ({row.bundle or row.refusal}) failed: {row.reason}"
    return Trouble(at=row.finished_at or row.created_at, study_uid=row.study_uid, what=what, why=row.detail)


def _key(text_: str) -> tuple[datetime, str]:
    at, divided, uid = text_.partition("~")
    try:
        moment = datetime.fromisoformat(at)
    except ValueError as error:
        raise RefusedError(f"{text_!r} is no key of a page; go to the list's beginning") from error
    if not divided or moment.tzinfo is None:
        raise RefusedError(f"{text_!r} is no key of a page; go to the list's beginning")
    return moment, uid


def _number(text_: str) -> int:
    if not text_.isdecimal() or not text_.isascii() or len(text_) > _LONGEST_NUMBER:
        raise RefusedError(f"{text_!r} is no key of a page; go to the list's beginning")
    return int(text_)
