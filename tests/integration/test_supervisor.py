"""The supervisor: parts that die are started again, and none outlives it."""

import fcntl
import os
import signal
import socket
from pathlib import Path

import psutil
import pytest

from daemon.runtime import LISTENING
from demo.ports import HOST, free_port, listens
from tests.daemons import alive, init, overread, parts, serving, started
from tests.peers import echoscu, storescp, wait_until


def test_parts_do_not_outlive_a_killed_supervisor(tmp_path: Path) -> None:
    """After SIGKILL of `serve` alone its parts stop by themselves, and the port is free for the next."""
    port = free_port()
    with storescp(tmp_path / "pacs") as archive:
        init(tmp_path / "site", port, archive)
        with serving(tmp_path / "site", port) as daemon:
            children = psutil.Process(daemon.process.pid).children()
            assert len(children) == 3
            os.kill(daemon.process.pid, signal.SIGKILL)
            daemon.process.wait()
            wait_until(lambda: not any(alive(part) for part in children), 240, "the parts to stop")


def test_a_part_that_dies_is_started_again(tmp_path: Path) -> None:
    """A killed worker is replaced while the listener goes on."""
    port = free_port()
    with storescp(tmp_path / "pacs") as archive:
        init(tmp_path / "site", port, archive)
        with serving(tmp_path / "site", port) as daemon:
            supervisor = psutil.Process(daemon.process.pid)
            before = {part.pid for part in supervisor.children()}
            worker = next(p for p in supervisor.children() if "work" in p.cmdline())
            worker.kill()
            wait_until(
                lambda: len({p.pid for p in supervisor.children() if alive(p)} - before) == 1, 240, "a new worker"
            )


def test_the_listener_answers_before_any_other_part_is_started(tmp_path: Path) -> None:
    """A C-ECHO succeeds while `serve` has started nothing else; the rest follows once the listener says it listens."""
    port = free_port()
    with storescp(tmp_path / "pacs") as archive:
        site = init(tmp_path / "site", port, archive).parent
        # The listener cannot say that it listens while we hold this; and `serve` does not lose patience while stopped.
        said = (site / "data" / LISTENING).open("w")
        with said, started(site) as process:
            fcntl.flock(said, fcntl.LOCK_EX)
            wait_until(lambda: "listen" in parts(process), 240, "the listener to be started")
            os.kill(process.pid, signal.SIGSTOP)
            wait_until(lambda: listens(port), 240, "the listener to listen")
            answered = echoscu(port, calling_ae="STORESCU").returncode == 0
            running = set(parts(process))
            fcntl.flock(said, fcntl.LOCK_UN)
            os.kill(process.pid, signal.SIGCONT)
            assert (answered, running) == (True, {"listen"})
            wait_until(lambda: {"work", "deliver"} <= parts(process).keys(), 240, "the other parts")


def test_a_listener_that_cannot_listen_holds_nothing_else(tmp_path: Path) -> None:
    """With its port taken the other parts run; once that is free, the listener is there too."""
    with storescp(tmp_path / "pacs") as archive, socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        site = init(tmp_path / "site", port, archive).parent
        with started(site) as process:
            wait_until(lambda: {"work", "deliver"} <= parts(process).keys(), 240, "the other parts")
            ended = "listen ended with 1; starting it again"
            wait_until(lambda: ended in (site / "serve.log").read_text(), 240, "the listener's end")
            taken.close()
            wait_until(lambda: listens(port), 240, "the listener")
            assert echoscu(port, calling_ae="STORESCU").returncode == 0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('ledger_url = "nonsense"', "ledger_url"),
        ('ledger_url = "sqlite:////nowhere/at/all.db"', "ledger_url"),
        ("headroom_mb = -1", "headroom_mb"),
        ("unknown_key = 1", "unknown_key"),
    ],
)
def test_a_wrong_configuration_is_one_clear_line(line: str, said: str, tmp_path: Path) -> None:
    """A wrong value stops the command with exit code 1 and a line that names it, no trace."""
    assert overread("init", str(tmp_path)).returncode == 0
    config = tmp_path / "overread.toml"
    key = line.partition(" ")[0]
    kept = [old for old in config.read_text().splitlines() if not old.startswith(f"{key} =")]
    kept.insert(kept.index("[data]") + 1, line)
    config.write_text("\n".join(kept))
    told = overread("status", "--config", str(config))
    assert told.returncode == 1
    assert said in told.stderr
    assert "Traceback" not in told.stderr


def test_two_destinations_of_one_name_are_refused(tmp_path: Path) -> None:
    """Which of two equal names would win is not left to chance."""
    twice = ["--destination", "pacs=A@127.0.0.1:1", "--destination", "pacs=B@127.0.0.1:2"]
    told = overread("init", str(tmp_path), *twice)
    assert told.returncode != 0
    assert "pacs" in told.stderr
