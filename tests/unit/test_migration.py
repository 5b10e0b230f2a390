"""The ledger forth and back: a copy comes first, what it holds stays, and nothing is done under a running daemon."""

import json
import sqlite3
import stat
from pathlib import Path
from typing import cast

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_mock_engine
from typer.testing import CliRunner, Result

from daemon.bootstrap import House
from daemon.cli.main import app
from daemon.config import load
from daemon.domain.delivery import DeliveryState
from daemon.errors import FatalError
from daemon.ledger import migrate
from daemon.ledger.deliveries import Deliveries
from daemon.ledger.engine import connect, writing
from daemon.ledger.revision import NEWEST, revision
from daemon.ledger.tables import FeedbackRow, ScoreRow, SecondRow
from daemon.runtime import LISTENING, marked
from tests.houses import House as Delivering
from tests.instances import NOW, series

RUNNER = CliRunner()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return the folder of a site whose ledger has three instances."""
    assert told("init", str(tmp_path)).exit_code == 0
    house = House(load(tmp_path))
    intake = house.intake()
    for instance in series(3):
        intake.record(instance, "a1")
    intake.close()
    house.engine.dispose()
    return tmp_path


def told(*arguments: str) -> Result:
    """Return what a command of `overread` says."""
    return RUNNER.invoke(app, list(arguments))


def shown(site: Path) -> dict[str, str | list[str]]:
    """Return what `ledger show` says."""
    (row,) = json.loads(told("ledger", "show", "--config", str(site), "--json").stdout)
    assert isinstance(row, dict)
    return row


def instances(path: Path) -> int:
    """Return how many instances a ledger's file holds."""
    with sqlite3.connect(path) as connection:
        (count,) = connection.execute("SELECT count(*) FROM instances").fetchone()
    connection.close()
    return int(count)


def delivered(folder: Path, engine: Engine) -> str:
    """Let every table that refers to another have a row; return the digest of an output that is on its way."""
    (digest,) = Delivering(folder, engine).completed(b"one")
    bundle = {"bundle_digest": "e" * 64}
    numbers = {"probability": 0.5, "risk": 0.5, "volume_ml": 1.0, "entropy": 0.1}
    with writing(engine) as session:
        session.add(ScoreRow(job_id=1, **bundle, **numbers))
        named = {"bundle": "b", "bundle_version": "2", "by": "ada", "asked": True}
        session.add(SecondRow(job_id=1, state="SCHEDULED", created_at=NOW, due_at=NOW, **bundle, **named))
        session.add(
            FeedbackRow(job_id=1, kind="verdict", state="LINKED", at=NOW, by="ada", study_uid="1.2", due_at=NOW)
        )
    return digest


def test_what_this_release_needs_is_its_last_migration(tmp_path: Path) -> None:
    """Whoever writes a migration says so to those who ask without Alembic; a ledger without tables has none."""
    assert ScriptDirectory(str(migrate.scripts())).get_current_head() == NEWEST
    empty = connect(f"sqlite:///{tmp_path / 'empty.db'}")
    assert revision(empty) is None
    empty.dispose()


def test_a_new_ledger_and_one_that_is_up_to_date_are_not_copied(site: Path) -> None:
    """There is nothing to go back to."""
    assert told("init", str(site)).exit_code == 0
    assert shown(site)["copies"] == []


def test_back_to_every_older_revision_and_forth_again(site: Path) -> None:
    """Each step back and the upgrade leave a copy, whole and ours alone; what it holds is there throughout."""
    data = site / "data"
    engine = connect(f"sqlite:///{data / 'ledger.db'}")
    sent = delivered(data, engine)
    engine.dispose()
    for count, older in enumerate(shown(site)["older"], 1):
        done = told("ledger", "downgrade", older, "--config", str(site))
        assert done.exit_code == 0, done.output
        assert f"the ledger is at {older}" in done.stdout
        assert shown(site)["revision"] == older
        assert len(list(data.glob("ledger-*.db"))) == count
        assert instances(data / "ledger.db") == 3
    done = told("init", str(site))
    assert f"copied to {data}" in done.stdout
    assert shown(site)["revision"] == shown(site)["needed"]
    copies = sorted(data.glob("ledger-*.db"))
    assert {instances(path) for path in (data / "ledger.db", *copies)} == {3}
    assert {stat.S_IMODE(path.stat().st_mode) for path in copies} == {0o600}
    assert [path.name.split("-")[1] for path in copies] == sorted((*shown(site)["older"], shown(site)["needed"]))
    assert [d.digest for d in Deliveries(engine).due(DeliveryState.PENDING, NOW)] == [sent]
    engine.dispose()


def test_a_copy_is_a_way_back_too(site: Path) -> None:
    """Put in the ledger's place it is the ledger as it was."""
    told("ledger", "copy", "--config", str(site))
    (copy,) = (site / "data").glob("ledger-*.db")
    (site / "data" / "ledger.db").unlink()
    copy.rename(site / "data" / "ledger.db")
    assert told("status", "--config", str(site)).exit_code == 0
    assert instances(site / "data" / "ledger.db") == 3


def test_a_running_daemon_keeps_its_ledger(site: Path) -> None:
    """Neither way is gone under it; the message says who runs and what to do."""
    back = shown(site)["older"][0]
    with marked(site / "data" / LISTENING, "127.0.0.1:11112"):
        refused = told("ledger", "downgrade", back, "--config", str(site))
        assert "listens at 127.0.0.1:11112: stop it" in str(refused.exception)
        assert told("init", str(site)).exit_code == 0
    assert shown(site)["revision"] == shown(site)["needed"]
    told("ledger", "downgrade", back, "--config", str(site), "--copied")
    with marked(site / "data" / LISTENING, "127.0.0.1:11112"):
        assert isinstance(told("init", str(site)).exception, FatalError)
    assert (shown(site)["revision"], shown(site)["copies"]) == (back, [])


@pytest.mark.parametrize("to", ["9999", "base", "head"])
def test_there_is_no_way_to_a_revision_that_is_not_older(site: Path, to: str) -> None:
    """The message names those that are, and nothing was done."""
    refused = told("ledger", "downgrade", to, "--config", str(site))
    assert isinstance(refused.exception, FatalError)
    assert "0001" in str(refused.exception)
    assert shown(site)["copies"] == []


def test_a_ledger_of_a_newer_release_is_left_alone(site: Path) -> None:
    """An older release does not know its revision, and says which one to install."""
    with sqlite3.connect(site / "data" / "ledger.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    refused = told("init", str(site))
    assert isinstance(refused.exception, FatalError)
    assert "revision 9999, which this release does not know" in str(refused.exception)
    assert list((site / "data").glob("ledger-*.db")) == []


def test_a_ledger_on_a_server_is_copied_by_its_own_means(tmp_path: Path) -> None:
    """It is not migrated until somebody says that it was copied."""
    server = create_mock_engine("postgresql://", print)
    with pytest.raises(FatalError, match=r"pg_dump.*--copied"):
        migrate.copy(cast("Engine", server), tmp_path, NOW)
