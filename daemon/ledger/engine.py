"""Connections: what SQLite needs to be durable and shared, and nothing of it elsewhere."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.orm import Session

BUSY_MS = 30_000


def connect(url: str) -> Engine:
    """Return an engine; SQLite in WAL with synchronous=FULL, so that a commit survives loss of power.

    A ledger that was there and is gone, with its disk perhaps, is an error until it is back: SQLite would else make an
    empty one in its place, in which everything that was acknowledged is unknown.
    """
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True)
    engine = create_engine(url, connect_args={"timeout": BUSY_MS / 1000, "check_same_thread": False})

    path, opened = Path(engine.url.database or ""), False

    @event.listens_for(engine, "do_connect")
    def _still_there(*_: object) -> None:
        if opened and not path.exists():
            raise sqlite3.OperationalError(f"the ledger {path} is gone; bring it back, nothing else is to be done")

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: object) -> None:  # noqa: ANN401 - a DBAPI connection has no type
        nonlocal opened
        opened = True
        # Transactions begin where we say, not where the driver guesses.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_MS}"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:  # noqa: ANN401 - the same
        write = connection.get_execution_options().get("write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Session]:
    """Yield a session in one write transaction, committed at the end, rolled back on any error."""
    connection = engine.connect().execution_options(write=True)
    with connection, Session(connection) as session, session.begin():
        yield session


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """Yield a session for reading."""
    with Session(engine) as session:
        yield session
