"""Second reads in the ledger: once for each job and bundle, worked on only while nothing else waits."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import fmean
from typing import Any

from sqlalchemy import ColumnElement, Engine, Select, exists, func, or_, select
from sqlalchemy.orm import Session

from daemon.domain.feedback import Outline
from daemon.domain.job import JobInput, JobState
from daemon.domain.model_bundle import BundleRef
from daemon.domain.output import OutputKind
from daemon.domain.pause import Activity
from daemon.domain.second import SHADOW, SecondOutcome, SecondState, SecondTask
from daemon.errors import RefusedError
from daemon.ledger.claims import hold
from daemon.ledger.engine import reading, writing
from daemon.ledger.few import in_state
from daemon.ledger.pauses import paused
from daemon.ledger.rows import findings_json
from daemon.ledger.tables import JobRow, OutputRow, ScoreRow, SecondRow

# Of the newest so many a comparison is made.
COMPARED = 500


@dataclass(frozen=True, kw_only=True)
class SecondView:
    """A second read, with its findings as they were committed."""

    id: int
    job_id: int
    bundle: str
    version: str
    bundle_digest: str
    by: str
    state: str
    detail: str
    created_at: datetime
    finished_at: datetime | None
    dice: float | None
    findings: dict[str, Any]
    seconds: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How one bundle's second reads stand to the answers beside them, of the newest `COMPARED`.

    `alike` is the share with the same kind of answer, `apart` the mean absolute difference of tumour probabilities,
    `dice` the mean between outlines where either has one; None without any.
    """

    bundle: str
    version: str
    digest: str
    waiting: int
    failed: int
    compared: int
    alike: float | None
    apart: float | None
    dice: float | None


class Seconds:
    """Second reads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def ask(self, job: int, bundle: BundleRef, by: str, at: datetime) -> None:
        """Schedule a second read on somebody's wish; one that failed is tried again, one that there is stays.

        Raises:
            RefusedError: the job has no answer to hold it against, or is the bundle's own.
        """
        with writing(self._engine) as session:
            hold(session, job)
            row = session.get(JobRow, job)
            if row is None or row.state != JobState.COMPLETED or row.refusal:
                raise RefusedError(f"job {job} has no answer to compare with; see `overread jobs list`")
            if row.bundle_digest == bundle.digest:
                raise RefusedError(f"job {job} was read with that bundle; name another")
            mine = (SecondRow.job_id == job) & (SecondRow.bundle_digest == bundle.digest)
            known = session.scalar(select(SecondRow).where(mine).with_for_update())
            if known is None:
                session.add(second_row(job, bundle, by, at))
            elif known.state == SecondState.FAILED:
                known.state, known.detail, known.attempts, known.due_at = SecondState.SCHEDULED.value, "", 0, at
                known.by, known.finished_at = by, None

    def claim(self, at: datetime, until: datetime) -> SecondTask | None:
        """Take one that is due; it is due again `until`, where this worker does not settle it before.

        There is none while a job is due or worked on, by whomever, and none while jobs are paused. What somebody asked
        for goes before what the settings order. One that is due much later than `until` was dated by a wrong clock.
        """
        now = or_(SecondRow.due_at <= at, SecondRow.due_at > at + 2 * (until - at))
        due = (SecondRow.state == SecondState.SCHEDULED.value) & now
        query = select(SecondRow).where(due, ~paused(Activity.JOBS), ~_busy(at))
        query = query.order_by(SecondRow.asked.desc(), SecondRow.id).limit(1)
        with reading(self._engine) as session:
            if session.scalar(query) is None:
                return None
        with writing(self._engine) as session:
            row = session.scalar(query.with_for_update(of=SecondRow, skip_locked=True))
            if row is None:
                return None
            row.attempts, row.due_at = row.attempts + 1, until
            return _task(session, row)

    def busy(self, at: datetime) -> bool:
        """Return whether a job is due or worked on."""
        with reading(self._engine) as session:
            return bool(session.scalar(select(_busy(at))))

    def settle(self, task: SecondTask, outcome: SecondOutcome, at: datetime) -> bool:
        """Commit what a read gave; False where another worker has it by now."""
        with writing(self._engine) as session:
            row = session.scalar(_mine(task).with_for_update())
            if row is None:
                return False
            row.state, row.detail, row.finished_at = outcome.state.value, outcome.detail, at
            row.findings, row.seconds, row.dice = findings_json(outcome.findings), dict(outcome.seconds), outcome.dice
            if outcome.findings is not None:
                row.answer = outcome.findings.answer.value
                row.probability = outcome.findings.tumour_probability.mean
        return True

    def release(self, task: SecondTask, detail: str, due: datetime) -> None:
        """Give one back that gave way to something else, as if it had not been begun."""
        with writing(self._engine) as session:
            row = session.scalar(_mine(task).with_for_update())
            if row is not None:
                row.attempts, row.detail, row.due_at = row.attempts - 1, detail, due

    def postpone(self, task: SecondTask, detail: str, due: datetime) -> None:
        """Give one back that failed for now, to be read again when it is due; the attempt counts."""
        with writing(self._engine) as session:
            row = session.scalar(_mine(task).with_for_update())
            if row is not None:
                row.detail, row.due_at = detail, due

    def of_jobs(self, jobs: Sequence[int]) -> list[SecondView]:
        """Return the second reads of these jobs, oldest first."""
        query = select(SecondRow).where(SecondRow.job_id.in_(jobs)).order_by(SecondRow.id)
        with reading(self._engine) as session:
            return [_view(row) for row in session.scalars(query).all()]

    def comparisons(self) -> list[Comparison]:
        """Return how each bundle that was ever a second reader compares."""
        with reading(self._engine) as session:
            newest = func.max(SecondRow.id)
            digests = session.execute(select(SecondRow.bundle_digest, newest).group_by(SecondRow.bundle_digest)).all()
            return [_comparison(session, digest, session.get_one(SecondRow, last)) for digest, last in digests]


def second_row(job: int, bundle: BundleRef, by: str, at: datetime) -> SecondRow:
    """Return the row of a second read that is due."""
    return SecondRow(
        job_id=job,
        bundle=bundle.name,
        bundle_version=bundle.version,
        bundle_digest=bundle.digest,
        by=by,
        asked=by != SHADOW,
        state=SecondState.SCHEDULED.value,
        created_at=at,
        due_at=at,
    )


def _busy(at: datetime) -> ColumnElement[bool]:
    # Two questions, each of an index of few: PostgreSQL may look through all jobs for one that is either.
    due = exists().where(in_state(JobState.SCHEDULED), JobRow.not_before <= at)
    return or_(due, exists().where(in_state(JobState.IN_PROGRESS)))


def _mine(task: SecondTask) -> Select[SecondRow]:
    """Return the query for a read that is still this worker's: whoever takes it next counts one attempt more."""
    held = (SecondRow.state == SecondState.SCHEDULED.value) & (SecondRow.attempts == task.attempts)
    return select(SecondRow).where(SecondRow.id == task.id, held)


def _task(session: Session, row: SecondRow) -> SecondTask:
    job = session.get_one(JobRow, row.job_id)
    of_job = (OutputRow.job_id == job.id) & (OutputRow.kind == OutputKind.SEGMENTATION.value)
    outline = session.scalar(select(OutputRow).where(of_job))
    return SecondTask(
        id=row.id,
        job_id=job.id,
        input=JobInput(
            study_instance_uid=job.study_uid, series=job.series, instance_digests=tuple(map(str, job.digests))
        ),
        bundle=BundleRef(name=row.bundle, version=row.bundle_version, digest=row.bundle_digest),
        attempts=row.attempts,
        outline=None if outline is None else Outline(digest=outline.digest, freed=outline.freed),
    )


def _view(row: SecondRow) -> SecondView:
    return SecondView(
        id=row.id,
        job_id=row.job_id,
        bundle=row.bundle,
        version=row.bundle_version,
        bundle_digest=row.bundle_digest,
        by=row.by,
        state=row.state,
        detail=row.detail,
        created_at=row.created_at,
        finished_at=row.finished_at,
        dice=row.dice,
        findings=row.findings,
        seconds=row.seconds,
    )


def _comparison(session: Session, digest: str, last: SecondRow) -> Comparison:
    mine = SecondRow.bundle_digest == digest
    counts = dict(session.execute(select(SecondRow.state, func.count()).where(mine).group_by(SecondRow.state)).all())
    columns = (SecondRow.answer, JobRow.answer, SecondRow.probability, ScoreRow.probability, SecondRow.dice)
    query = select(*columns).join(JobRow, JobRow.id == SecondRow.job_id).join(ScoreRow, ScoreRow.job_id == JobRow.id)
    done = query.where(mine, SecondRow.state == SecondState.COMPLETED.value)
    rows = session.execute(done.order_by(SecondRow.id.desc()).limit(COMPARED)).all()
    return Comparison(
        bundle=last.bundle,
        version=last.bundle_version,
        digest=digest,
        waiting=counts.get(SecondState.SCHEDULED.value, 0),
        failed=counts.get(SecondState.FAILED.value, 0),
        compared=len(rows),
        alike=_mean(float(second == first) for second, first, *_ in rows),
        apart=_mean(abs(second - first) for _, _, second, first, _ in rows if second is not None),
        dice=_mean(dice for *_, dice in rows if dice is not None),
    )


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return fmean(found) if found else None
