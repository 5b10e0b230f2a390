"""The ledger of a daemon under test, on either database: held by another, taken away for a while, and read."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sqlalchemy import select

from daemon.ledger.engine import connect, writing
from daemon.ledger.tables import InstanceRow, StudyRow
from tests.clusters import Cluster, cluster

DATABASES = ("sqlite", "postgresql")


class Ledger(Protocol):
    """What befalls a ledger."""

    @property
    def url(self) -> str:
        """Return its URL."""
        ...

    def take_away(self, seconds: float) -> None:
        """Let it be gone for so long."""
        ...


@dataclass(frozen=True, kw_only=True)
class FileLedger:
    """SQLite, in a file."""

    path: Path

    @property
    def url(self) -> str:
        """Return its URL."""
        return f"sqlite:///{self.path}"

    def take_away(self, seconds: float) -> None:
        """Rename the file for so long."""
        away = self.path.rename(self.path.with_suffix(".away"))
        time.sleep(seconds)
        away.rename(self.path)


@dataclass(frozen=True, kw_only=True)
class ServerLedger:
    """PostgreSQL, on a server of our own."""

    server: Cluster
    url: str

    def take_away(self, seconds: float) -> None:
        """End the server at once, as a crash would, and start it again after so long."""
        self.server.stop(signal.SIGQUIT)
        time.sleep(seconds)
        self.server.start()


@contextmanager
def ledger(database: str, folder: Path) -> Iterator[Ledger]:
    """Yield a ledger: SQLite where `init` in `folder` makes it, or one on a new server, migrated."""
    if database == "sqlite":
        yield FileLedger(path=folder / "data" / "ledger.db")
        return
    with cluster() as server:
        yield ServerLedger(server=server, url=server.url(server.ledger()))


def lock(url: str, seconds: float) -> None:
    """Hold every study, and on SQLite the whole ledger, for so long."""
    engine = connect(url)
    with writing(engine) as session:
        session.scalars(select(StudyRow.uid).with_for_update()).all()
        time.sleep(seconds)
    engine.dispose()


def digests(url: str) -> list[str]:
    """Return the digests of all instances."""
    engine = connect(url)
    with writing(engine) as session:
        found = list(session.scalars(select(InstanceRow.digest)))
    engine.dispose()
    return found
