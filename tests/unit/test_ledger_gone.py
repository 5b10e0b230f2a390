"""A ledger that another holds, or that is gone, for a while: nothing is lost, nothing is made in its place."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from daemon.domain.reception import Verdict
from daemon.ledger.engine import LedgerAwayError, connect, reached
from daemon.ledger.intake import Intake
from daemon.ledger.migrate import upgrade
from tests.instances import NOW, series
from tests.peers import wait_until


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the ledger lies."""
    return tmp_path / "data" / "ledger.db"


@pytest.fixture
def engine(place: Path) -> Iterator[Engine]:
    """A migrated ledger."""
    place.parent.mkdir()
    made = connect(f"sqlite:///{place}")
    upgrade(made)
    yield made
    made.dispose()


def test_a_locked_ledger_is_waited_for(engine: Engine, place: Path) -> None:
    """An instance that comes while another process holds the ledger is recorded once that lets go, not before."""
    intake, (instance,) = Intake(engine), series(1)
    intake.opened("a1", "MR1", NOW)
    with sqlite3.connect(place, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        recorder = threading.Thread(target=intake.record, args=(instance, "a1"))
        recorder.start()
        recorder.join(0.5)
        assert recorder.is_alive()
        other.execute("COMMIT")
        wait_until(lambda: not recorder.is_alive(), 60, "the instance to be recorded")
        assert other.execute("SELECT count(*) FROM instances").fetchone() == (1,)
    other.close()


def test_a_ledger_that_stays_locked_is_given_up(engine: Engine, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time the write fails as one that may be tried again, and then succeeds on the same connection."""
    intake, (instance,) = Intake(engine), series(1)
    intake.opened("a1", "MR1", NOW)
    with sqlite3.connect(place, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with monkeypatch.context() as impatient:
            impatient.setattr("daemon.ledger.engine.BUSY_MS", 20)
            with pytest.raises(LedgerAwayError, match="locked"):
                intake.record(instance, "a1")
        other.execute("COMMIT")
        assert intake.record(instance, "a1") is Verdict.STORED
    other.close()


def test_more_threads_than_connections_wait_for_one(engine: Engine) -> None:
    """SQLite has as many connections as a server; where all are in use for long, that is a fault that passes."""
    with ExitStack() as stack:
        held = [stack.enter_context(engine.connect()) for _ in range(32)]
        assert len({id(connection.connection.dbapi_connection) for connection in held}) == 32
    with pytest.raises(LedgerAwayError, match="in use"), reached():
        raise PoolTimeoutError


def test_a_ledger_that_is_gone_is_not_made_anew(engine: Engine, place: Path) -> None:
    """While the folder is away every write fails, no empty ledger appears, and afterwards all is as it was."""
    intake, (first, second) = Intake(engine), series(2)
    intake.opened("a1", "MR1", NOW)
    intake.record(first, "a1")
    engine.dispose()
    away = place.parent.rename(place.parent.with_name("away"))
    place.parent.mkdir()
    with pytest.raises(LedgerAwayError, match="is gone"):
        intake.record(second, "a1")
    assert list(place.parent.iterdir()) == []
    place.parent.rmdir()
    away.rename(place.parent)
    intake.record(second, "a1")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM instances").scalar_one() == 2
