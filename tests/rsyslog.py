"""A real Audit Record Repository: Debian's rsyslog on loopback, with its own configuration, started and stopped."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo.ports import HOST, free_port
from tests.certificates import Authority, Pair
from tests.peers import need, running_peer, wait_until

CONFIGURATION = """
global(
  workDirectory="{folder}" maxMessageSize="64k" processInternalMessages="on"
  parser.escapeControlCharactersOnReceive="off"
  defaultNetstreamDriverCAFile="{authority}"
  defaultNetstreamDriverCertFile="{pair.certificate}" defaultNetstreamDriverKeyFile="{pair.key}"
)
template(name="whole" type="string" string="\\"%rawmsg:::json%\\"\\n")
ruleset(name="kept") {{ action(type="omfile" file="{kept}" template="whole") }}
module(load="imudp")
input(type="imudp" address="{host}" port="{port}" ruleset="kept")
module(
  load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="x509/name"
  permittedPeer=["{permitted}"]
)
input(type="imtcp" address="{host}" port="{port}" ruleset="kept")
action(type="omfile" file="{folder}/own.log")
"""


@dataclass(frozen=True, kw_only=True)
class Rsyslog:
    """Where it listens, by TLS and for datagrams, and what it keeps over restarts."""

    folder: Path
    pair: Pair
    authority: Authority
    permitted: str
    port: int

    @property
    def messages(self) -> list[str]:
        """Return the messages in the order they were written, each as it came."""
        kept = self.folder / "kept.log"
        lines = kept.read_bytes().splitlines(keepends=True) if kept.exists() else []
        # The last may be half written.
        return [json.loads(line) for line in lines if line.endswith(b"\n")]

    def arrived(self, count: int) -> list[str]:
        """Return the messages once there are so many."""
        wait_until(lambda: len(self.messages) >= count, 20, f"{count} messages in rsyslog's file")
        return self.messages

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run it, on the same port each time."""
        settings = self.folder / "rsyslog.conf"
        settings.write_text(
            CONFIGURATION.format(
                folder=self.folder,
                authority=self.authority.certificate,
                pair=self.pair,
                kept=self.folder / "kept.log",
                permitted=self.permitted,
                host=HOST,
                port=self.port,
            )
        )
        command = ["rsyslogd", "-n", "-f", str(settings), "-i", str(self.folder / "rsyslog.pid")]
        with running_peer(command, self.port, self.folder / "output.log"):
            yield


def rsyslog(folder: Path, pair: Pair, authority: Authority, permitted: str) -> Rsyslog:
    """Return one that shows `pair` and takes only the certificate named `permitted`.

    By GnuTLS: the driver for OpenSSL of Debian 12 (8.2302) does not heed the name, and loses messages.
    """
    need("rsyslogd")
    if not list(Path("/usr/lib").glob("*/rsyslog/lmnsd_gtls.so")):
        pytest.skip("rsyslog's driver for TLS is not installed; install Debian's rsyslog-gnutls")
    folder.mkdir(parents=True, exist_ok=True)
    return Rsyslog(folder=folder, pair=pair, authority=authority, permitted=permitted, port=free_port())
