"""What messages say of jobs: which are still to be told of, which were and wait all the same."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Engine, func, or_, select, update

from daemon.domain.assembly import SKEW
from daemon.domain.handling import Hint, Resource
from daemon.ledger.claims import ready
from daemon.ledger.engine import reading, writing
from daemon.ledger.tables import JobRow, TallyRow

TOLD, TOLD_AGAIN = "messages", "messages again"


class Outbox:
    """Messages in the ledger: a job that is due and was not told of is one that is to go out."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def untold(self, at: datetime, most: int) -> list[Hint]:
        """Return jobs that are due and of which no message says so, the most urgent first."""
        return self._hints((ready(at), JobRow.told_at.is_(None)), most)

    def unheard(self, at: datetime, before: datetime, resource: Resource, most: int) -> list[Hint]:
        """Return jobs that a message told of before then, or at a time to come, and that are due all the same."""
        told = or_(JobRow.told_at < before, JobRow.told_at > at + SKEW)
        return self._hints((ready(at), told, JobRow.resource == resource), most)

    def waiting(self, at: datetime) -> Mapping[Resource, int]:
        """Return how many jobs were told of and are due, by what they want."""
        query = select(JobRow.resource, func.count()).where(ready(at), JobRow.told_at.is_not(None))
        with reading(self._engine) as session:
            rows = session.execute(query.group_by(JobRow.resource)).all()
        return {Resource(name): count for name, count in rows}

    def told(self, hints: Sequence[Hint], at: datetime, *, again: bool) -> None:
        """Commit that a message said so of each, but one that somebody has claimed since."""
        name, ids = TOLD_AGAIN if again else TOLD, [hint.job_id for hint in hints]
        with writing(self._engine) as session:
            session.execute(update(JobRow).where(JobRow.id.in_(ids), ready(at)).values(told_at=at))
            row = session.get(TallyRow, name)
            session.merge(TallyRow(name=name, count=(row.count if row else 0) + len(ids)))

    def tallies(self) -> dict[str, int]:
        """Return how many messages ever went out, first and again."""
        with reading(self._engine) as session:
            return {row.name: row.count for row in session.scalars(select(TallyRow))}

    def _hints(self, conditions: tuple[ColumnElement[bool], ...], most: int) -> list[Hint]:
        query = select(JobRow.id, JobRow.resource).where(*conditions)
        query = query.order_by(JobRow.priority.desc(), JobRow.created_at, JobRow.id).limit(most)
        with reading(self._engine) as session:
            rows = session.execute(query).all()
        return [Hint(job_id=number, resource=Resource(resource)) for number, resource in rows]
