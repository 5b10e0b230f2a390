"""A PostgreSQL of the tests' own: Debian's program on a cluster in a temporary folder, never the system's service."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine

from daemon.ledger.engine import connect
from daemon.ledger.migrate import upgrade
from demo.ports import free_port
from tests.peers import wait_until

_DEBIAN = Path("/usr/lib/postgresql")
# The tests' clusters outlive no power failure; what is killed in them is the server, and that loses nothing.
_SETTINGS = {"fsync": "off", "full_page_writes": "off", "max_connections": "200", "shared_buffers": "64MB"}
_TEMPLATE = "migrated"


def programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, the newest; None where it is not installed."""
    found = sorted(_DEBIAN.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    here = shutil.which("initdb")
    return found[-1].parent if found else Path(here).parent if here else None


@dataclass(kw_only=True)
class Cluster:
    """A server in `folder`, with a socket there and, where it has a `port`, on loopback or at `host`."""

    folder: Path
    port: int
    host: str
    settings: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    numbers: Iterator[int] = field(default_factory=count)

    def url(self, database: str) -> str:
        """Return the URL of a database, as `data.ledger_url` takes it."""
        return f"postgresql://postgres@/{database}?host={self.folder}&port={self.port}"

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        given = {**_SETTINGS, "unix_socket_directories": str(self.folder), **self.settings}
        given |= {"listen_addresses": self.host, "port": str(self.port)}
        options = [part for name, value in given.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "server.log").open("ab") as log:
            self.process = self._run("postgres", "-D", str(self.folder / "data"), *options, log=log)
        wait_until(self._answers, 60, "PostgreSQL to answer")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server: SIGINT cuts its clients off, SIGQUIT leaves the rest to the next start."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(timeout=60)
            self.process = None

    @cached_property
    def template(self) -> str:
        """Return the name of a migrated database that others are copied from."""
        self.execute(f"CREATE DATABASE {_TEMPLATE}")
        made = connect(self.url(_TEMPLATE))
        upgrade(made)
        made.dispose()
        return _TEMPLATE

    def ledger(self) -> str:
        """Return the name of a new, migrated database."""
        name = f"ledger{next(self.numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {self.template} STRATEGY FILE_COPY")
        return name

    def drop(self, name: str) -> None:
        """Remove a database, with whoever is still in it."""
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def execute(self, statement: str) -> None:
        """Run a statement that stands in no transaction."""
        server = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with server.connect() as connection:
            connection.exec_driver_sql(statement)

    def make(self) -> None:
        """Write the cluster's files; who may enter the folder may enter as whom they will."""
        log = (self.folder / "initdb.log").open("wb")
        ran = self._run("initdb", "-D", str(self.folder / "data"), "-A", "trust", "-U", "postgres", "-N", log=log)
        if ran.wait(timeout=120):
            pytest.fail(f"initdb: {(self.folder / 'initdb.log').read_text(errors='replace')[-2000:]}")
        log.close()
        if self.host:
            with (self.folder / "data/pg_hba.conf").open("a", encoding="ascii") as rules:
                rules.write("host all all samenet trust\n")

    def _answers(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            pytest.fail(f"PostgreSQL ended: {(self.folder / 'server.log').read_text(errors='replace')[-2000:]}")
        ready = self._run("pg_isready", "-q", "-h", str(self.folder), "-p", str(self.port))
        return ready.wait(timeout=30) == 0

    def _run(self, program: str, *arguments: str, log: object = None) -> subprocess.Popen[bytes]:
        folder = programs()
        assert folder is not None
        return subprocess.Popen(
            [str(folder / program), *arguments],
            stdout=log or subprocess.DEVNULL,  # type: ignore[call-overload]
            stderr=subprocess.STDOUT,
            cwd="/",
            # It refuses to be root.
            user="postgres" if os.geteuid() == 0 else None,
            start_new_session=True,
        )


@contextmanager
def cluster(host: str = "", settings: Mapping[str, str] | None = None) -> Iterator[Cluster]:
    """Run a server until the block ends; on its socket alone, or at the addresses `host` too."""
    if programs() is None:
        pytest.skip("PostgreSQL is not installed; `make setup` as root installs it")
    # Not below pytest's folder: others may not enter that, and a socket's path is short.
    folder = Path(tempfile.mkdtemp(prefix="overread-pg-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    made = Cluster(folder=folder, port=free_port(), host=host, settings=settings or {})
    try:
        made.make()
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder)
