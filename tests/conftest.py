"""Fixtures that many tests share."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import Engine

from daemon.ledger.engine import connect
from daemon.ledger.migrate import upgrade
from tests.clusters import Cluster, cluster
from tests.daemons import Ledgers, compiled
from tests.ledgers import DATABASES

# A machine that stalls is no fault of what is tested, and a run is the same each time: `make fuzz` searches.
settings.register_profile("tests", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    """A PostgreSQL of this session's own."""
    with cluster() as made:
        yield made


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty ledger's file, to be copied: migrations take longer than most tests."""
    path = tmp_path_factory.mktemp("migrated") / "ledger.db"
    made = connect(f"sqlite:///{path}")
    upgrade(made)
    made.dispose()
    return path


@pytest.fixture(params=DATABASES)
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the URL of an empty, migrated ledger, on each of the databases in turn."""
    if request.param == "sqlite":
        yield f"sqlite:///{shutil.copy(request.getfixturevalue('migrated'), tmp_path / 'ledger.db')}"
        return
    server: Cluster = request.getfixturevalue("postgresql")
    with ExitStack() as stack:
        name = server.ledger()
        stack.callback(server.drop, name)
        yield server.url(name)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let pictures that tests look at be kept, and every daemon under test keep its ledger on PostgreSQL."""
    parser.addoption(
        "--pictures", type=Path, help="keep pictures of OHIF there, read with all passes, such as docs/images"
    )
    parser.addoption("--ledger", choices=DATABASES, default=DATABASES[0], help="where daemons under test keep theirs")


@pytest.fixture(scope="session", autouse=True)
def _daemons_bytecode() -> None:
    compiled()


@pytest.fixture(scope="session", autouse=True)
def _daemons_ledger(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.config.getoption("--ledger") == DATABASES[0]:
        yield
        return
    # As `doctor` wants a server to be.
    with cluster(settings={"fsync": "on", "full_page_writes": "on"}) as server:
        Ledgers.server = server
        yield
        Ledgers.server = None


@pytest.fixture
def engine(ledger_url: str) -> Iterator[Engine]:
    """Return an empty ledger, on each of the databases in turn."""
    made = connect(ledger_url)
    yield made
    made.dispose()
