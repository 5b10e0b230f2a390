"""watch draws what the ledger holds, once or until it is interrupted."""

import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from daemon.bootstrap import House
from daemon.cli.main import app
from daemon.domain.delivery import DeliveryState
from daemon.domain.work import Change
from tests.consoles import configured
from tests.houses import House as Ledger
from tests.instances import NOW
from tests.peers import wait_until

PACS = '[[destination]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = 1\n'


def bury(house: House) -> None:
    """Let a delivery that waits be dead."""
    first = house.deliveries.due(DeliveryState.PENDING, NOW)[0]
    dead = Change(id=first.id, state=DeliveryState.DEAD, due_at=NOW, detail="no association")
    house.deliveries.change([dead], NOW)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A house with an answer, one of whose two deliveries is dead."""
    made = configured(tmp_path, PACS)
    Ledger(tmp_path, made.engine).completed(b"one", b"two")
    bury(made)
    yield made
    made.engine.dispose()


def test_once_is_one_picture(house: House) -> None:
    """Queues, destinations, disk and the newest failure, then it ends."""
    drawn = CliRunner().invoke(app, ["watch", "--once", "--config", str(house.settings.path)], env={"COLUMNS": "120"})
    assert drawn.exit_code == 0, drawn.output
    for told in ("0 SCHEDULED", "1 PENDING", "1 DEAD", "pacs", "reached", "GB free", "no association"):
        assert told in drawn.output


def test_it_goes_on_until_interrupted(house: House) -> None:
    """On a terminal it shows what changed meanwhile, and Ctrl-C ends it without a trace."""
    ours, theirs = pty.openpty()
    # Who runs the tests in the background ignores Ctrl-C, and so would all that they start.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "daemon", "watch", "--every", "0.2"]
    command += ["--config", str(house.settings.path)]
    shown = b""

    def drawn(text: bytes) -> bool:
        nonlocal shown
        while select.select([ours], [], [], 0)[0]:
            shown += os.read(ours, 1 << 16)
        return text in shown

    terminal = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, env=terminal)
    try:
        wait_until(lambda: drawn(b"1 DEAD"), 240, "the first picture")
        shown = b""
        bury(house)
        wait_until(lambda: drawn(b"2 DEAD"), 240, "what changed")
        process.send_signal(signal.SIGINT)
        # Read on: a terminal that takes no more holds whoever writes to it.
        wait_until(lambda: drawn(b"") and process.poll() is not None, 240, "its end")
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()
    assert b"Traceback" not in shown
    os.close(ours)
    os.close(theirs)
