"""Hosts with addresses of their own, inside the test's network namespace: one bridge, a namespace for each of them."""

import os
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo.programs import end
from tests.peers import need

# Where the test itself is.
HUB = "10.77.0.1"


@dataclass(frozen=True, kw_only=True)
class Host:
    """A host at `address`; its network is that of the namespace `name`."""

    name: str
    link: str
    address: str

    def cut(self) -> None:
        """Let nothing reach it, nor come from it; nobody is told."""
        _ip("link", "set", self.link, "down")

    def heal(self) -> None:
        """Let packets go through again."""
        _ip("link", "set", self.link, "up")

    @contextmanager
    def running(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Iterator[None]:
        """Run a program there until the block ends."""
        with log.open("ab") as sink:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.name, *command], stderr=sink, env={**os.environ, **environment}
            )
        try:
            yield
        finally:
            end(process, 60)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"


@contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    """Yield hosts that reach the test at `HUB`; skip where the test has no network of its own."""
    need("ip")
    alone = {name for _, name in socket.if_nameindex()} == {"lo"}
    if os.geteuid() != 0 or not alone:
        pytest.skip("needs root and a network of its own: run by scripts/isolated.sh, as `make test` does")
    with ExitStack() as stack:
        _ip("link", "add", "hub", "type", "bridge")
        stack.callback(_ip, "link", "del", "hub")
        _ip("addr", "add", f"{HUB}/24", "dev", "hub")
        _ip("link", "set", "hub", "up")
        made = []
        for number in range(count):
            host = Host(name=f"overread-{os.getpid()}-{number}", link=f"host{number}", address=f"10.77.0.{11 + number}")
            _ip("netns", "add", host.name)
            stack.callback(_ip, "netns", "del", host.name)
            _ip("link", "add", host.link, "type", "veth", "peer", "name", "eth0", "netns", host.name)
            _ip("link", "set", host.link, "master", "hub", "up")
            _ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", "eth0")
            for link in ("eth0", "lo"):
                _ip("-n", host.name, "link", "set", link, "up")
            made.append(host)
        yield made
