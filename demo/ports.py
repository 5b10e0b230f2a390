"""TCP ports on loopback for servers that are about to start."""

import os
import random
import socket
from collections.abc import Iterator

HOST = "127.0.0.1"
_BELOW_EPHEMERAL = range(12_000, 32_000)
_WORKERS = 4


def _candidates() -> Iterator[int]:
    """Yield ports below those that the kernel gives to callers, of which each worker of pytest-xdist has its share."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", f"gw{_WORKERS}").removeprefix("gw"))
    ours = _BELOW_EPHEMERAL[worker % (_WORKERS + 1) :: _WORKERS + 1]
    start = random.randrange(len(ours))  # noqa: S311 - no secret: two runs on one machine should seldom meet
    while True:
        yield from ours[start:]
        yield from ours[:start]


_PORTS = _candidates()


def free_port() -> int:
    """Return a TCP port that is free on loopback, and that this process has not given out lately.

    The kernel's own choice (bind to 0) can be taken by any outgoing connection before the server binds it.
    """
    for port in _PORTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        return port
    raise AssertionError


def listens(port: int, host: str = HOST) -> bool:
    """Return whether a server takes connections at `port`."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0
