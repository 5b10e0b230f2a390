"""A real daemon for tests: `overread init` and `overread serve` as a user runs them."""

import compileall
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import psutil
from sqlalchemy import Engine, text

import daemon
from daemon.config import load
from daemon.ledger.engine import connect, reading
from daemon.ledger.queries import Queries
from daemon.ledger.seconds import Seconds
from demo.ports import HOST, listens
from tests.clusters import Cluster
from tests.peers import Peer, wait_until

OVERREAD = [sys.executable, "-m", "daemon"]


class Ledgers:
    """Where daemons under test keep their ledgers: SQLite as `init` makes it, or on `server`."""

    server: ClassVar[Cluster | None] = None

    @classmethod
    def keys(cls) -> dict[str, str]:
        """Return the lines of a configuration that name a ledger of its own."""
        return {} if cls.server is None else {"ledger_url": f'"{cls.server.url(cls.server.ledger())}"'}


def asked(config: Path, query: str) -> list[Any]:
    """Return what the ledger, on either database, answers to a statement."""
    with ledger(config) as engine, reading(engine) as session:
        return [tuple(row) for row in session.execute(text(query))]


@contextmanager
def ledger(config: Path) -> Iterator[Engine]:
    """Yield the ledger of a configuration, on either database."""
    engine = connect(load(config).database_url())
    try:
        yield engine
    finally:
        engine.dispose()


@dataclass(kw_only=True)
class Daemon:
    """A running `overread serve`; `folder` holds configuration, data and log."""

    folder: Path
    port: int
    ae_title: str
    process: subprocess.Popen[bytes]

    @property
    def config(self) -> Path:
        """Return the configuration file."""
        return self.folder / "overread.toml"


def compiled() -> None:
    """Keep the daemon's bytecode, as an installation does, also where PYTHONDONTWRITEBYTECODE is set.

    Each process would else compile it anew, a fifth of a second long.
    """
    compileall.compile_dir(Path(daemon.__file__).parent, quiet=1)


def overread(*arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    return subprocess.run([*OVERREAD, *arguments], capture_output=True, text=True, timeout=timeout, check=False)


def init(folder: Path, port: int, archive: Peer, /, **keys: str) -> Path:
    """Write a configuration that waits little, and return its path; `keys` are lines to replace."""
    made = overread(
        "init",
        str(folder),
        "--port",
        str(port),
        "--allow",
        "STORESCU",
        "--destination",
        f"pacs={archive.ae_title}@{HOST}:{archive.port}",
    )
    assert made.returncode == 0, made.stderr
    path = folder / "overread.toml"
    quick = {"quiet_seconds": "2", "headroom_mb": "64", "lease_seconds": "3", "first_retry_seconds": "0.5"}
    wanted = {**quick, **Ledgers.keys(), **keys}
    lines = [_replaced(line, wanted) for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")
    return path


def _replaced(line: str, wanted: Mapping[str, str]) -> str:
    key = line.partition(" = ")[0]
    return f"{key} = {wanted[key]}" if key in wanted else line


@contextmanager
def serving(folder: Path, port: int, environment: Mapping[str, str] | None = None) -> Iterator[Daemon]:
    """Run `overread serve` in a process group of its own until the block ends, once it listens and runs its parts."""
    with started(folder, environment) as process:
        # A machine with much other work takes minutes to start five interpreters.
        wait_until(lambda: process.poll() is not None or (listens(port) and _all_run(process)), 240, "the daemon")
        assert process.poll() is None, (folder / "serve.log").read_text()[-2000:]
        yield Daemon(folder=folder, port=port, ae_title="OVERREAD", process=process)


@contextmanager
def started(folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run `overread serve` until the block ends, which may find it anywhere between its start and its end."""
    with (folder / "serve.log").open("ab") as log:
        process = subprocess.Popen(
            [*OVERREAD, "serve", "--config", str(folder / "overread.toml")],
            stderr=log,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        stop(process)


def parts(process: subprocess.Popen[bytes]) -> dict[str, psutil.Process]:
    """Return the parts of a running `serve` by their command; of several workers one."""
    found: dict[str, psutil.Process] = {}
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children():
            with suppress(psutil.NoSuchProcess, IndexError):  # one that is just begun, or has ended
                found[child.cmdline()[3]] = child
    return found


def _all_run(process: subprocess.Popen[bytes]) -> bool:
    # It follows the worker; the console, which follows both, is awaited by who wants it.
    return "deliver" in parts(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the daemon to end; kill its group where it does not."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def alive(process: psutil.Process) -> bool:
    """Return whether a process runs; one that its parent has not heard of yet does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill(process: subprocess.Popen[bytes]) -> None:
    """End the daemon and all its parts at once, as loss of power would."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def results(archive: Peer, study: str) -> dict[str, list[str]]:
    """Return Orthanc's ids of the study's results by modality."""
    found: dict[str, list[str]] = {"SEG": [], "SR": []}
    query = {"Level": "Instance", "Expand": True, "Query": {"StudyInstanceUID": study}}
    request = urllib.request.Request(
        f"http://{HOST}:{archive.http_port}/tools/find", data=json.dumps(query).encode(), method="POST"
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - a loopback address
        for instance in json.load(answer):
            series = archive.rest(f"/series/{instance['ParentSeries']}")
            modality = series["MainDicomTags"]["Modality"] if isinstance(series, dict) else ""
            if modality in found:
                found[modality].append(str(instance["ID"]))
    return found


def counted(config: Path, what: str, state: str) -> int:
    """Return how many jobs or deliveries are in a state.

    Not by `overread status`: whoever waits looks again and again, and a process for each look would take a core.
    """
    with ledger(config) as engine:
        return Queries(engine).counts()[what].get(state, 0)


def compared(config: Path) -> dict[str, int]:
    """Return how many second reads wait, failed and were compared."""
    with ledger(config) as engine:
        rows = Seconds(engine).comparisons()
    return {key: sum(getattr(row, key) for row in rows) for key in ("waiting", "failed", "compared")}
