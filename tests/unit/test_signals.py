"""SIGTERM stops a process whatever its main thread is about."""

import subprocess
import sys

# The event's own lock is held, as it is for a moment in each wait for it, while the signal comes.
PROGRAM = """
import os, signal, threading
from daemon.runtime import stop_on_signals
stop = stop_on_signals()
with stop._cond:
    os.kill(os.getpid(), signal.{name})
    for _ in range(1000):
        pass
raise SystemExit(0 if stop.wait(20) else 3)
"""


def test_a_signal_within_a_wait_for_it_is_heard() -> None:
    """Neither signal is lost, nor does its handler wait for a lock that its own thread holds."""
    for name in ("SIGTERM", "SIGINT"):
        ended = subprocess.run([sys.executable, "-c", PROGRAM.format(name=name)], timeout=60, check=False)
        assert ended.returncode == 0, name
