"""Circuits: destinations that were not reached; kept, so that the command line sees them and a restart knows them."""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Engine, delete, select, update
from sqlalchemy.orm import Session

from daemon.domain.delivery import Circuit
from daemon.ledger.engine import reading, writing
from daemon.ledger.tables import CircuitRow


class Circuits:
    """Circuits in the ledger."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get(self, name: str) -> Circuit | None:
        """Return a destination's circuit; None where all is well."""
        with reading(self._engine) as session:
            row = session.get(CircuitRow, name)
            return None if row is None else _circuit(row)

    def all(self) -> dict[str, Circuit]:
        """Return the circuits by destination."""
        with reading(self._engine) as session:
            return {row.destination: _circuit(row) for row in session.scalars(select(CircuitRow)).all()}

    def keep(self, circuit: Circuit) -> None:
        """Commit a failure."""
        with writing(self._engine) as session:
            session.merge(CircuitRow(**vars(circuit)))

    def close(self, name: str) -> None:
        """Commit that a destination was reached."""
        with writing(self._engine) as session:
            forget(session, name)

    def hasten(self, at: datetime) -> None:
        """Commit that every destination is tried at once."""
        with writing(self._engine) as session:
            session.execute(update(CircuitRow).values(next_at=at))


def forget(session: Session, name: str) -> None:
    """Drop a circuit."""
    session.execute(delete(CircuitRow).where(CircuitRow.destination == name))


def hasten(session: Session, names: Iterable[str], at: datetime) -> None:
    """Let these destinations be tried at once."""
    session.execute(update(CircuitRow).where(CircuitRow.destination.in_(list(names))).values(next_at=at))


def _circuit(row: CircuitRow) -> Circuit:
    return Circuit(
        destination=row.destination,
        failures=row.failures,
        since=row.since,
        next_at=row.next_at,
        reason=row.reason,
    )
