"""What the ledger knows of spooled files: paths to read, what may be freed, what must be there."""

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import Engine, Select, exists, select, update
from sqlalchemy.orm import Session

from daemon.domain.delivery import DeliveryState
from daemon.domain.instance import Instance
from daemon.domain.job import JobState
from daemon.ledger.engine import reading, writing
from daemon.ledger.rows import instance_of
from daemon.ledger.tables import DeliveryRow, InstanceRow, JobRow, OutputRow, StudyRow

# No statement names more values: SQLite and PostgreSQL both take about 32,000.
PARAMETERS = 1000
# Files deleted in one transaction: so long nobody else writes.
BATCH = 200


class Files:
    """Rows that stand for files."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def instances(self, digests: Sequence[str]) -> list[Instance]:
        """Return the instances of these digests."""
        with reading(self._engine) as session:
            parts = (digests[start : start + PARAMETERS] for start in range(0, len(digests), PARAMETERS))
            queries = (select(InstanceRow).where(InstanceRow.digest.in_(part)) for part in parts)
            return [instance_of(row.facts) for query in queries for row in session.scalars(query)]

    def kept(self) -> dict[str, int]:
        """Return every file that must be in the spool: its digest and its size in bytes."""
        with reading(self._engine) as session:
            received = session.execute(select(InstanceRow.digest, InstanceRow.size).where(~InstanceRow.freed))
            made = session.execute(select(OutputRow.digest, OutputRow.size).where(~OutputRow.freed))
            return {row.digest: row.size for row in (*received, *made)}

    def freeable(self, before: datetime) -> list[str]:
        """Return digests of studies untouched since `before` whose every job ended and output is confirmed.

        A study with a waiting, dead or unconfirmed delivery, an output that goes nowhere, or a failed job, stays whole.
        """
        with reading(self._engine) as session:
            return _digests(session, _done(before))

    def release(self, before: datetime) -> list[str]:
        """Note that what is freeable may be gone, and return it; committed before anything is deleted."""
        if not self.freeable(before):
            return []
        studies = _done(before)
        with writing(self._engine) as session:
            digests = _digests(session, studies)
            session.execute(update(InstanceRow).where(InstanceRow.study_uid.in_(studies)).values(freed=True))
            jobs = select(JobRow.id).where(JobRow.study_uid.in_(studies))
            session.execute(update(OutputRow).where(OutputRow.job_id.in_(jobs)).values(freed=True))
        return digests

    def while_free(self, digests: Sequence[str], then: Callable[[Sequence[str]], None]) -> None:
        """Call `then` on those that may be gone, in parts; while it runs none of them can be promised anew."""
        for start in range(0, len(digests), BATCH):
            some = digests[start : start + BATCH]
            with writing(self._engine) as session:
                received = select(InstanceRow.digest).where(InstanceRow.digest.in_(some), InstanceRow.freed)
                made = select(OutputRow.digest).where(OutputRow.digest.in_(some), OutputRow.freed)
                then([digest for query in (received, made) for digest in session.scalars(query.with_for_update())])


def _done(before: datetime) -> Select[str]:
    """Return the studies of which nothing waits for anybody."""
    of_study = JobRow.study_uid == StudyRow.uid
    ended = JobRow.state.in_((JobState.COMPLETED.value, JobState.CANCELED.value))
    unfinished = exists().where(of_study, ~ended)
    delivered = exists().where(DeliveryRow.output_id == OutputRow.id)
    unsent = exists().where(of_study, OutputRow.job_id == JobRow.id, ~delivered)
    unconfirmed = exists().where(
        of_study,
        OutputRow.job_id == JobRow.id,
        DeliveryRow.output_id == OutputRow.id,
        DeliveryRow.state != DeliveryState.CONFIRMED.value,
    )
    untouched = (StudyRow.last_at < before, ~StudyRow.dirty)
    return select(StudyRow.uid).where(*untouched, ~unfinished, ~unsent, ~unconfirmed)


def _digests(session: Session, studies: Select[str]) -> list[str]:
    """Return what is kept of these studies. A subquery, not a list: a database takes only so many parameters."""
    received = select(InstanceRow.digest).where(InstanceRow.study_uid.in_(studies), ~InstanceRow.freed)
    of_jobs = select(OutputRow.digest).join(JobRow, JobRow.id == OutputRow.job_id)
    made = of_jobs.where(JobRow.study_uid.in_(studies), ~OutputRow.freed)
    return [*session.scalars(received), *session.scalars(made)]
