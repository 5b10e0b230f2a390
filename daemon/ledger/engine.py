"""Connections: what SQLite and PostgreSQL each need to be durable and shared, and nothing of it elsewhere."""

import os
import socket
import sqlite3
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, func, make_url, select
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from daemon.domain.news import News
from daemon.errors import FatalError, RetryableError
from daemon.ledger.types import document

BUSY_MS = 30_000
# Whoever waits to write looks again after so long at most.
_LOOK_MS = 3
# What everybody who shares a server's ledger is known by there; the machine and the process follow.
APPLICATION = "overread"
# Connections of one process, beyond the five that stay open; its threads are fewer.
_OVERFLOW = 27
# A server is given up, and a client by the server, after so many seconds without a sign of life.
_SILENCE = 30
# serialization_failure, deadlock_detected (PostgreSQL, appendix A)
_CONTENTION = frozenset({"40001", "40P01"})


class LedgerAwayError(RetryableError):
    """The ledger is locked, gone, full or unreachable for now; what was asked of it did not happen, or is not known."""


def connect(url: str) -> Engine:
    """Return an engine of a ledger on SQLite or PostgreSQL.

    Raises:
        FatalError: the URL is of another database.
    """
    made = make_url(url)
    makers = {"sqlite": _sqlite, "postgresql": _postgresql}
    if made.get_backend_name() not in makers:
        raise FatalError(f"a ledger is kept in {' or '.join(makers)}, not in {made.get_backend_name()}")
    return makers[made.get_backend_name()](made)


def _sqlite(url: URL) -> Engine:
    """Return an engine in WAL with synchronous=FULL, so that a commit survives loss of power.

    A ledger that was there and is gone, with its disk perhaps, is an error until it is back: SQLite would else make an
    empty one in its place, in which everything that was acknowledged is unknown.
    """
    engine = create_engine(
        url,
        hide_parameters=True,
        max_overflow=_OVERFLOW,
        connect_args={"timeout": BUSY_MS / 1000, "check_same_thread": False},
    )

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
        if connection.get_execution_options().get("write", False):
            _begin_writing(connection)
        else:
            connection.exec_driver_sql("BEGIN")

    return engine


def _begin_writing(connection: Connection) -> None:
    """Begin a transaction that writes, once nobody else does.

    Raises:
        DBAPIError: as SQLAlchemy says it itself.
    """
    raw: Any = connection.connection.driver_connection
    try:
        begin_immediately(raw)
    except sqlite3.Error as error:
        raise DBAPIError.instance(None, None, error, sqlite3.Error, dialect=connection.dialect) from error


def begin_immediately(raw: sqlite3.Connection) -> None:
    """Begin a transaction that writes on a driver's connection, once nobody else does.

    SQLite itself looks ever more seldom, every 0.1 s in the end: whoever waits among busy processes would wait seconds.

    Raises:
        sqlite3.Error: somebody else does for too long, or there is no ledger.
    """
    give_up = time.monotonic() + BUSY_MS / 1000
    raw.execute(f"PRAGMA busy_timeout={_LOOK_MS}")
    try:
        while True:
            try:
                raw.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                    raise
            else:
                return
    finally:
        raw.execute(f"PRAGMA busy_timeout={BUSY_MS}")


def _postgresql(url: URL) -> Engine:
    """Return an engine that tries a connection before it is used, waits for locks as SQLite does, and notices silence.

    The server ends the transaction of a client that is gone: else its locks would hold the others for hours.
    """
    settings = {
        "timezone": "UTC",
        # Each question is of few rows. A server that guesses otherwise would compile it first, for 0.2 s.
        "jit": "off",
        "lock_timeout": f"{BUSY_MS}ms",
        "idle_in_transaction_session_timeout": f"{2 * _SILENCE}s",
        "tcp_keepalives_idle": _SILENCE // 3,
        "tcp_keepalives_interval": _SILENCE // 3,
        "tcp_keepalives_count": 2,
        "tcp_user_timeout": f"{_SILENCE}s",
    }
    arguments = {
        "application_name": application_name(),
        "connect_timeout": _SILENCE // 3,
        "keepalives_idle": _SILENCE // 3,
        "keepalives_interval": _SILENCE // 3,
        "keepalives_count": 2,
        "tcp_user_timeout": _SILENCE * 1000,
        "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
    }
    given = {name: value for name, value in arguments.items() if name not in url.query}
    try:
        engine = create_engine(
            url,
            hide_parameters=True,
            pool_pre_ping=True,
            max_overflow=_OVERFLOW,
            json_serializer=document,
            connect_args=given,
        )
    except ModuleNotFoundError as error:
        raise FatalError(f"a ledger on PostgreSQL needs {error.name}; run `pip install overread[postgres]`") from error
    # Nobody closes an engine; the server is told all the same that its client is gone.
    weakref.finalize(engine, engine.pool.dispose)
    return engine


def application_name() -> str:
    """Return what this process is called among a server's clients; PostgreSQL keeps 63 bytes."""
    return f"{APPLICATION}-{os.getpid()}@{socket.gethostname()}"[:63]


@contextmanager
def reached() -> Iterator[None]:
    """Let what a ledger raises that is locked or away be a fault that passes.

    Raises:
        LedgerAwayError: that is so. The statement is left out: its values may be a patient's.
    """
    try:
        yield
    except (InterfaceError, OperationalError, sqlite3.InterfaceError, sqlite3.OperationalError) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        raise LedgerAwayError(f"the ledger does not answer ({cause}); tried again later") from error
    except PoolTimeoutError as error:
        raise LedgerAwayError("every connection to the ledger is in use; tried again later") from error


def telling(engine: Engine, ring: Callable[[News], None]) -> Engine:
    """Return the engine; `ring` is called with the news of each transaction, once it is committed."""
    engine.update_execution_options(ring=ring)
    return engine


@contextmanager
def writing(engine: Engine, *news: News) -> Iterator[Session]:
    """Yield a session in one write transaction, committed at the end, rolled back on any error.

    On SQLite there is one at a time. On PostgreSQL there are many: who decides by what is read locks it first.
    `news` is what others may wait for in it.
    """
    with (
        reached(),
        engine.connect().execution_options(write=True) as connection,
        Session(connection) as session,
        session.begin(),
    ):
        yield session
    ring = engine.get_execution_options().get("ring", _unheard)
    for one in news:
        ring(one)


def _unheard(_: News) -> None:
    pass


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """Yield a session for reading: all of it sees the ledger at one moment."""
    with reached(), engine.connect() as connection, Session(connection) as session:
        if engine.dialect.name == "postgresql":
            connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        yield session


def alone(session: Session, name: str) -> None:
    """Wait until nobody else is here under that name, and keep others out until the transaction ends."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))


def crossed(error: DBAPIError) -> bool:
    """Return whether another's transaction, or a lost connection, was in the way: the same again may well succeed."""
    state = getattr(error.orig, "sqlstate", None)
    return isinstance(error, IntegrityError) or error.connection_invalidated or state in _CONTENTION
