"""A ledger on a server: what the doctor says of it, who else uses it, and its migrations."""

import socket
from pathlib import Path

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner, Result

from daemon.cli.main import app
from daemon.domain.delivery import DeliveryState
from daemon.errors import FatalError
from daemon.ledger import migrate
from daemon.ledger.deliveries import Deliveries
from daemon.ledger.engine import connect
from daemon.ledger.revision import NEWEST, behind, revision
from daemon.ledger.server import ailments, others
from tests.clusters import Cluster
from tests.instances import NOW
from tests.unit.test_migration import delivered

RUNNER = CliRunner()


def told(*arguments: str) -> Result:
    """Return what a command of `overread` says."""
    return RUNNER.invoke(app, list(arguments))


def init(folder: Path, url: str, *options: str) -> Result:
    """Run `overread init` on a folder whose ledger is at `url`."""
    if not (folder / "overread.toml").exists():
        folder.mkdir(exist_ok=True)
        (folder / "overread.toml").write_text(f'[data]\nledger_url = "{url}"\n')
    return told("init", str(folder), *options)


@pytest.fixture
def url(postgresql: Cluster) -> str:
    """The URL of an empty database."""
    name = f"empty{next(postgresql.numbers)}"
    postgresql.execute(f"CREATE DATABASE {name}")
    return postgresql.url(name)


def test_back_to_every_older_revision_and_forth_again(url: str, tmp_path: Path) -> None:
    """It is not touched until somebody says that it was copied; then each way works, tables and rows are as before."""
    assert init(tmp_path, url).exit_code == 0
    engine = connect(url)
    sent = delivered(tmp_path / "data", engine)
    for older in migrate.older(NEWEST):
        refused = told("ledger", "downgrade", older, "--config", str(tmp_path))
        assert "pg_dump" in str(refused.exception)
        done = told("ledger", "downgrade", older, "--config", str(tmp_path), "--copied")
        assert done.exit_code == 0, done.output
        assert revision(engine) == older
    assert "pg_dump" in str(init(tmp_path, url).exception)
    assert init(tmp_path, url, "--copied").exit_code == 0
    assert not behind(engine)
    assert [d.digest for d in Deliveries(engine).due(DeliveryState.PENDING, NOW)] == [sent]
    engine.dispose()


def test_another_machine_keeps_its_ledger(url: str, tmp_path: Path) -> None:
    """No migration is made under a process that is connected; the message names it."""
    assert init(tmp_path, url).exit_code == 0
    back = migrate.older(NEWEST)[0]
    stranger = connect(f"{url}&application_name=overread-7@elsewhere")
    with stranger.connect():
        refused = told("ledger", "downgrade", back, "--config", str(tmp_path), "--copied")
    stranger.dispose()
    assert isinstance(refused.exception, FatalError)
    assert "in use by 7@elsewhere" in str(refused.exception)


def test_the_doctor_names_what_loses_data(engine: Engine) -> None:
    """The tests' server flushes nothing, which the doctor sees; a file needs no server."""
    found = ailments(engine)
    assert [line.partition(" ")[0] for line in found] == (
        ["fsync", "full_page_writes"] if engine.dialect.name == "postgresql" else []
    )
    assert others(engine) == []


def test_a_server_compiles_no_question(url: str) -> None:
    """Each is of few rows; where the server guesses otherwise, to compile it takes longer than all the rest."""
    engine = connect(url)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW jit").scalar_one() == "off"
    engine.dispose()


def test_a_server_that_is_away_is_named_and_no_password_is(tmp_path: Path) -> None:
    """The message says what to do; a password in the URL is in no message."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        refused = init(tmp_path, f"postgresql://us:s3cret@127.0.0.1:{taken.getsockname()[1]}/ledger")
    assert isinstance(refused.exception, FatalError)
    assert "start its server" in str(refused.exception)
    assert "s3cret" not in f"{refused.output}{refused.exception}"


def test_no_other_database_is_a_ledger(tmp_path: Path) -> None:
    """What nobody tested is refused by name."""
    refused = init(tmp_path, "mysql://host/ledger")
    assert "sqlite or postgresql, not in mysql" in str(refused.exception)
