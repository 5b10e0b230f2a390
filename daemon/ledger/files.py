"""What the ledger knows of spooled files: paths to read, what may be freed, what must be there."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import Engine, exists, select, update

from daemon.domain.delivery import DeliveryState
from daemon.domain.instance import Instance
from daemon.domain.job import JobState
from daemon.ledger.engine import reading, writing
from daemon.ledger.rows import instance_of
from daemon.ledger.tables import DeliveryRow, InstanceRow, JobRow, OutputRow, StudyRow

# No statement names more values: SQLite and PostgreSQL both take about 32,000.
PARAMETERS = 1000


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
        """Return digests of studies untouched since `before` whose every job ended and delivery is confirmed.

        A study with a dead or waiting delivery, or a failed job, stays whole.
        """
        unfinished_job = exists().where(
            JobRow.study_uid == StudyRow.uid,
            JobRow.state.not_in((JobState.COMPLETED.value, JobState.CANCELED.value)),
        )
        unconfirmed = exists().where(
            JobRow.study_uid == StudyRow.uid,
            OutputRow.job_id == JobRow.id,
            DeliveryRow.output_id == OutputRow.id,
            DeliveryRow.state != DeliveryState.CONFIRMED.value,
        )
        studies = select(StudyRow.uid).where(StudyRow.last_at < before, ~StudyRow.dirty, ~unfinished_job, ~unconfirmed)
        with reading(self._engine) as session:
            # Subqueries, not lists: a database takes only so many parameters, and studies grow for ever.
            received = session.scalars(
                select(InstanceRow.digest).where(InstanceRow.study_uid.in_(studies), ~InstanceRow.freed)
            ).all()
            made = session.scalars(
                select(OutputRow.digest)
                .join(JobRow, JobRow.id == OutputRow.job_id)
                .where(JobRow.study_uid.in_(studies), ~OutputRow.freed)
            ).all()
            return [*received, *made]

    def freed(self, digests: Iterable[str]) -> None:
        """Note that these files may be gone; committed before they are deleted."""
        gone = list(digests)
        with writing(self._engine) as session:
            for start in range(0, len(gone), PARAMETERS):
                some = gone[start : start + PARAMETERS]
                session.execute(update(InstanceRow).where(InstanceRow.digest.in_(some)).values(freed=True))
                session.execute(update(OutputRow).where(OutputRow.digest.in_(some)).values(freed=True))
