"""The supervisor: parts that die are started again, and none outlives it."""

import os
import signal
from pathlib import Path

import psutil
import pytest

from demo.ports import free_port
from tests.daemons import alive, init, overread, serving
from tests.peers import storescp, wait_until


def test_parts_do_not_outlive_a_killed_supervisor(tmp_path: Path) -> None:
    """After SIGKILL of `serve` alone its parts stop by themselves, and the port is free for the next."""
    port = free_port()
    with storescp(tmp_path / "pacs") as archive:
        init(tmp_path / "site", port, archive)
        with serving(tmp_path / "site", port) as daemon:
            parts = psutil.Process(daemon.process.pid).children()
            assert len(parts) == 3
            os.kill(daemon.process.pid, signal.SIGKILL)
            daemon.process.wait()
            wait_until(lambda: not any(alive(part) for part in parts), 240, "the parts to stop")


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
