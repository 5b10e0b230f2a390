"""Pauses: what an administrator holds; kept, so that every process heeds them and a restart knows them."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import ColumnElement, Engine, delete, exists, select

from daemon.domain.news import News
from daemon.domain.pause import Activity, Pause
from daemon.ledger.engine import reading, writing
from daemon.ledger.tables import PauseRow


class Pauses:
    """Pauses in the ledger."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def all(self) -> list[Pause]:
        """Return what is held, by name."""
        with reading(self._engine) as session:
            rows = session.scalars(select(PauseRow).order_by(PauseRow.activity)).all()
            return [Pause(activity=Activity(row.activity), since=row.since, by=row.by) for row in rows]

    def holds(self, activity: Activity) -> bool:
        """Return whether `activity` is held."""
        with reading(self._engine) as session:
            return bool(session.scalar(select(paused(activity))))

    def begin(self, activities: Collection[Activity], by: str, at: datetime) -> None:
        """Hold these; what is held already stays as it was noted."""
        with writing(self._engine) as session:
            held = set(session.scalars(select(PauseRow.activity)).all())
            session.add_all(PauseRow(activity=a.value, since=at, by=by) for a in activities if a.value not in held)

    def end(self) -> list[Activity]:
        """Hold nothing any more; return what was held."""
        with writing(self._engine, News.JOB, News.OUTPUT) as session:
            held = session.scalars(delete(PauseRow).returning(PauseRow.activity)).all()
            return sorted(map(Activity, held))


def paused(activity: Activity) -> ColumnElement[bool]:
    """Return the condition that `activity` is held, for the statement that would begin it."""
    return exists().where(PauseRow.activity == activity.value)
