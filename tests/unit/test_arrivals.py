"""New instances of known studies: written by SQLite's driver just as SQLAlchemy writes them, or not at all."""

import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path

import pytest

from daemon.domain.instance import Instance
from daemon.domain.reception import Verdict
from daemon.ledger import intake as module
from daemon.ledger.arrivals import Arrivals
from daemon.ledger.engine import LedgerAwayError, connect
from daemon.ledger.intake import Intake
from daemon.ledger.migrate import upgrade
from tests.instances import NOW, facts, series


@pytest.fixture
def ledger(tmp_path: Path) -> Callable[[str], tuple[Intake, Path]]:
    """Make a ledger by its name, with an association that is open."""

    def make(name: str) -> tuple[Intake, Path]:
        path = tmp_path / name
        engine = connect(f"sqlite:///{path}")
        upgrade(engine)
        made = Intake(engine)
        made.opened("a1", "MR1", NOW)
        return made, path

    return make


def cells(path: Path) -> list[tuple[object, ...]]:
    """Return every cell of studies and instances as SQLite keeps it, with its type."""
    found: list[tuple[object, ...]] = []
    with closing(sqlite3.connect(path)) as raw:
        for table in ("studies", "instances"):
            names = [row[1] for row in raw.execute(f"PRAGMA table_info({table})")]
            columns = ", ".join(f'"{name}", typeof("{name}")' for name in names)
            found += raw.execute(f"SELECT {columns} FROM {table} ORDER BY 1").fetchall()  # noqa: S608 - names of our own
    return found


def odd() -> list[Instance]:
    """Return instances with all that text and numbers may hold."""
    words = facts(description="\u00fc\u2028\ud83d\x00'\"", echo_time=1e-7, contrast_agent="", image_type=())
    return series(3, acquisition=words)


@pytest.mark.parametrize("instances", [series(3), odd()], ids=["plain", "odd"])
def test_what_the_driver_writes_is_what_sqlalchemy_writes(
    ledger: Callable[[str], tuple[Intake, Path]], instances: Sequence[Instance]
) -> None:
    """Cell by cell, types too: whoever reads or compares them later cannot tell who wrote them."""
    (plain, here), (other, there) = ledger("plain"), ledger("other")
    other._plain = None
    for intake in (plain, other):
        assert [intake.record(one, "a1") for one in instances] == [Verdict.STORED] * 3
    assert cells(here) == cells(there)


def test_a_batch_with_one_that_is_other_is_written_whole(ledger: Callable[[str], tuple[Intake, Path]]) -> None:
    """A copy among new ones: each gets its own verdict, and nothing is there twice."""
    intake, path = ledger("ledger")
    first, second, third = series(3)
    assert intake.record(first, "a1") is Verdict.STORED
    batch = [module._Arrival(instance=one, association="a1", done=Future()) for one in (second, first, third)]
    intake._commit(batch)
    verdicts = [arrival.done.result(0) for arrival in batch]
    assert verdicts == [Verdict.STORED, Verdict.DUPLICATE, Verdict.STORED]
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("SELECT instances, size FROM studies").fetchall() == [(3, 3000)]
        assert raw.execute("SELECT count(*) FROM instances").fetchall() == [(3,)]


def test_a_disk_that_fills_up_acknowledges_nothing(
    ledger: Callable[[str], tuple[Intake, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender is told to send again; nothing of it is there, and the next is taken on the same connection."""
    intake, path = ledger("ledger")
    first, second = series(2)
    assert intake.record(first, "a1") is Verdict.STORED
    written = Arrivals._written
    with monkeypatch.context() as full:

        def refused(self: Arrivals, connection: sqlite3.Connection, counted: object, row: object) -> bool:
            assert written(self, connection, counted, row)  # type: ignore[arg-type]
            raise sqlite3.OperationalError("database or disk is full")

        full.setattr(Arrivals, "_written", refused)
        with pytest.raises(LedgerAwayError, match="full"):
            intake.record(second, "a1")
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("SELECT instances FROM studies").fetchall() == [(1,)]
        assert raw.execute("SELECT count(*) FROM instances").fetchall() == [(1,)]
    assert intake.record(second, "a1") is Verdict.STORED
