"""What the ledger knows of spooled files: paths to read, what may be freed, what must be there."""

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import Engine, Select, exists, select, update
from sqlalchemy.orm import Session, aliased

from daemon.domain.delivery import DeliveryState
from daemon.domain.feedback import FeedbackState
from daemon.domain.instance import Instance
from daemon.domain.job import JobState
from daemon.ledger.engine import reading, writing
from daemon.ledger.few import KEPT
from daemon.ledger.parts import PARAMETERS, parts
from daemon.ledger.rows import instance_of
from daemon.ledger.tables import DeliveryRow, FeedbackRow, InstanceRow, JobRow, OutputRow, StudyRow

# Files deleted in one transaction: so long nobody else writes.
BATCH = 200


class Files:
    """Rows that stand for files."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def instances(self, digests: Sequence[str]) -> list[Instance]:
        """Return the instances of these digests."""
        with reading(self._engine) as session:
            queries = (select(InstanceRow.facts).where(InstanceRow.digest.in_(part)) for part in parts(digests))
            return [instance_of(facts) for query in queries for facts in session.scalars(query)]

    def of_job(self, job_id: int, series_uid: str) -> list[str]:
        """Return the digests of what a job read of a series; none where any of it may be gone."""
        with reading(self._engine) as session:
            read = session.scalar(select(JobRow.digests).where(JobRow.id == job_id)) or []
            rows = session.scalars(select(InstanceRow).where(InstanceRow.series_uid == series_uid)).all()
            found = [row for row in rows if row.digest in set(read)]
            return [] if any(row.freed for row in found) else [row.digest for row in found]

    def kept(self) -> dict[str, int]:
        """Return every file that must be in the spool: its digest and its size in bytes."""
        with reading(self._engine) as session:
            received = session.execute(select(InstanceRow.digest, InstanceRow.size).where(~InstanceRow.freed))
            made = session.execute(select(OutputRow.digest, OutputRow.size).where(~OutputRow.freed))
            back = session.execute(
                select(FeedbackRow.digest, FeedbackRow.size).where(FeedbackRow.digest.is_not(None), ~FeedbackRow.freed)
            )
            return {row.digest: row.size for row in (*received, *made, *back) if row.digest}

    def freeable(self, before: datetime) -> list[str]:
        """Return digests of studies untouched since `before` whose every job ended and output is confirmed.

        A study with a waiting, dead or unconfirmed delivery, a failed job, or one of whose outputs none goes anywhere,
        stays whole. A replaced delivery is as good as what went instead. Of feedback: what is of no result, and what
        was exported before then; a correction that nobody has fetched stays.
        """
        with reading(self._engine) as session:
            return _digests(session, _done(before)) + _returned(session, before)

    def release(self, before: datetime) -> list[str]:
        """Note that what is freeable, of some studies, may be gone, and return it; committed before it is deleted."""
        # In the order of the index of those that are kept: PostgreSQL would else look through all studies for a few.
        studies = _done(before).order_by(StudyRow.first_at).limit(PARAMETERS)
        with reading(self._engine) as session:
            if session.scalar(studies.limit(1)) is None and not _returned(session, before):
                return []
        with writing(self._engine) as session:
            # A list: between two statements another study may be done, of which the first freed nothing.
            done = session.scalars(studies.with_for_update(of=StudyRow, key_share=True, skip_locked=True)).all()
            jobs = select(JobRow.id).where(JobRow.study_uid.in_(done))
            of_each = (
                (InstanceRow, InstanceRow.study_uid.in_(done)),
                (OutputRow, OutputRow.job_id.in_(jobs)),
                (FeedbackRow, FeedbackRow.digest.in_(_feedback(before))),
            )
            digests: list[str] = []
            for table, those in of_each:
                freed = update(table).where(those, ~table.freed).values(freed=True).returning(table.digest)
                digests += filter(None, session.scalars(freed))
            session.execute(update(StudyRow).where(StudyRow.uid.in_(done)).values(kept=False))
        return digests

    def while_free(self, digests: Sequence[str], then: Callable[[Sequence[str]], None]) -> None:
        """Call `then` on those that may be gone, in parts; while it runs none of them can be promised anew."""
        for some in parts(digests, BATCH):
            with writing(self._engine) as session:
                received = select(InstanceRow.digest).where(InstanceRow.digest.in_(some), InstanceRow.freed)
                made = select(OutputRow.digest).where(OutputRow.digest.in_(some), OutputRow.freed)
                back = select(FeedbackRow.digest).where(FeedbackRow.digest.in_(some), FeedbackRow.freed)
                queries = (received, made, back)
                then([digest for query in queries for digest in session.scalars(query.with_for_update()) if digest])


def _done(before: datetime) -> Select[str]:
    """Return the studies of which nothing waits for anybody."""
    of_study = select(JobRow.id).where(JobRow.study_uid == StudyRow.uid)
    ended = JobRow.state.in_((JobState.COMPLETED.value, JobState.CANCELED.value))
    sent = aliased(OutputRow)
    delivered = exists().where(sent.job_id == JobRow.id, DeliveryRow.output_id == sent.id)
    made = of_study.where(OutputRow.job_id == JobRow.id)
    certain = DeliveryRow.state.in_((DeliveryState.CONFIRMED.value, DeliveryState.REPLACED.value))
    unconfirmed = made.where(DeliveryRow.output_id == OutputRow.id, ~certain)
    untouched = (KEPT, StudyRow.first_at < before, StudyRow.last_at < before, ~StudyRow.dirty)
    # Each study by itself, by its jobs: of EXISTS PostgreSQL may make a join, and look through all deliveries for it.
    none = (
        query.limit(1).scalar_subquery().is_(None)
        for query in (of_study.where(~ended), made.where(~delivered), unconfirmed)
    )
    return select(StudyRow.uid).where(*untouched, *none)


def _feedback(before: datetime) -> Select[str | None]:
    """Return the digests of returned SEGs that nobody waits for."""
    stray = (FeedbackRow.state == FeedbackState.UNLINKED.value) & (FeedbackRow.at < before)
    there = FeedbackRow.digest.is_not(None) & ~FeedbackRow.freed
    return select(FeedbackRow.digest).where(there, stray | (FeedbackRow.exported_at < before))


def _returned(session: Session, before: datetime) -> list[str]:
    return [digest for digest in session.scalars(_feedback(before)) if digest]


def _digests(session: Session, studies: Select[str] | Sequence[str]) -> list[str]:
    """Return what is kept of these studies. A subquery where they are many: a database takes only so many values."""
    received = select(InstanceRow.digest).where(InstanceRow.study_uid.in_(studies), ~InstanceRow.freed)
    of_jobs = select(OutputRow.digest).join(JobRow, JobRow.id == OutputRow.job_id)
    made = of_jobs.where(JobRow.study_uid.in_(studies), ~OutputRow.freed)
    return [*session.scalars(received), *session.scalars(made)]
