"""Sessions of the console: in the ledger, so that a restart ends none and a log-out ends one everywhere."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, delete, select, update

from daemon.ledger.engine import reading, writing
from daemon.ledger.tables import SessionRow


@dataclass(frozen=True, kw_only=True)
class Session:
    """Somebody logged in; `digest` is the SHA-256 of the cookie, `entry` that of the user's entry in the settings."""

    digest: str
    user: str
    entry: str
    began_at: datetime
    used_at: datetime


class Sessions:
    """Sessions in the ledger."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get(self, digest: str) -> Session | None:
        """Return a session, also one whose time is over."""
        with reading(self._engine) as session:
            row = session.get(SessionRow, digest)
            if row is None:
                return None
            return Session(
                digest=row.digest, user=row.user, entry=row.entry, began_at=row.began_at, used_at=row.used_at
            )

    def begin(self, made: Session, unused_since: datetime, most: int) -> None:
        """Keep a new session; forget those unused since that time, and of its user all but the newest `most`."""
        mine = select(SessionRow).where(SessionRow.user == made.user).order_by(SessionRow.used_at.desc())
        with writing(self._engine) as session:
            session.execute(delete(SessionRow).where(SessionRow.used_at < unused_since))
            for spare in session.scalars(mine.offset(most - 1)).all():
                session.delete(spare)
            session.add(SessionRow(**vars(made)))

    def used(self, digest: str, at: datetime) -> None:
        """Note that a session was used."""
        with writing(self._engine) as session:
            session.execute(update(SessionRow).where(SessionRow.digest == digest).values(used_at=at))

    def end(self, digest: str) -> None:
        """Forget a session."""
        with writing(self._engine) as session:
            session.execute(delete(SessionRow).where(SessionRow.digest == digest))
