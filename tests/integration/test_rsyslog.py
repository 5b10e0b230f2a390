"""rsyslog as Audit Record Repository: what it writes is what the log holds, whole, in order and once."""

from datetime import UTC, datetime
from functools import partial
from itertools import count as counting
from pathlib import Path

import pytest

from daemon.audit.chain import Chain
from daemon.audit.forward import Forwarder, progress
from daemon.audit.links import Link, TlsLink, UdpLink
from daemon.audit.syslog import encode
from daemon.clock import SystemClock
from daemon.dimse.tls import client_context, explain
from daemon.domain.repository import Repository
from demo.ports import HOST
from tests.certificates import Authority, Pair
from tests.peers import wait_until
from tests.rsyslog import Rsyslog, rsyslog

pytestmark = pytest.mark.peers
NAME, HOSTNAME = "overread.example", "reader.hospital.example"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return the hospital's authority."""
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server(tmp_path: Path, authority: Authority) -> Rsyslog:
    """Return an rsyslog that takes our certificate alone, not yet running."""
    return rsyslog(tmp_path / "rsyslog", authority.issue("arr", f"IP:{HOST}"), authority, NAME)


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    """Return an empty log."""
    return Chain(tmp_path / "audit.log")


def documents(first: int, count: int, length: int = 0) -> list[dict[str, object]]:
    """Return lines of the log, each with letters beyond ASCII, quotes and `length` octets more."""
    at = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC).isoformat(timespec="milliseconds")
    text = '<AuditMessage id="{}">Grüße 漢字 \\ %m {}</AuditMessage>'
    return [{"time": at, "outcome": 0, "message": text.format(first + n, "x" * length)} for n in range(count)]


def tls(server: Rsyslog, pair: Pair | None = None) -> TlsLink:
    """Return the way there, with that certificate or the one it permits, in batches of four."""
    ours = (pair or server.authority.issue(NAME, f"DNS:{NAME}")).credentials(server.authority)
    place = Repository(secure=True, host=HOST, port=server.port)
    return TlsLink(repository=place, context=partial(client_context, ours), explain=explain, seconds=20.0, most=4)


def drained(chain: Chain, link: Link) -> int:
    """Send until nothing is sent, as after a restart and as if a second lay between batches; return how much went."""
    one, total = Forwarder(chain, link, SystemClock(), HOSTNAME, partial(next, counting())), 0
    while count := one.step():
        total += count
    return total


def lines(chain: Chain) -> list[str]:
    """Return the log as messages."""
    return [encode(line.document or {}, HOSTNAME).decode() for line in chain.lines(0)]


def test_the_log_arrives_whole_in_order_and_once_though_the_server_was_down(chain: Chain, server: Rsyslog) -> None:
    """By mutual TLS, to the octet; a message of 30,000 octets too. What came up meanwhile waits; none repeats."""
    link = tls(server)
    chain.append(documents(1, 9))
    with server.running():
        assert link.probe() == f"tls://{HOST}:{server.port} answers"
        assert drained(chain, link) == 9
        assert server.arrived(9) == lines(chain)
    chain.append(documents(10, 5))
    chain.append(documents(15, 1, length=30_000))
    assert drained(chain, link) == 0
    assert (progress(chain).sent, progress(chain).waiting) == (9, 6)
    assert "nothing listens there" in progress(chain).reason
    with server.running():
        assert drained(chain, link) == 6
        assert drained(chain, link) == 0
        server.arrived(15)
    assert server.messages == lines(chain)
    assert all(message.split("] ", 1)[1].startswith("\ufeff<AuditMessage") for message in server.messages)


def test_a_certificate_that_it_does_not_accept_is_not_taken_for_sent(
    chain: Chain, server: Rsyslog, tmp_path: Path
) -> None:
    """One of another authority, or of another name: all waits, and goes out later."""
    stranger = Authority(tmp_path / "other").issue(NAME, f"DNS:{NAME}")
    wrong = (stranger, server.authority.issue("other.example"))
    chain.append(documents(1, 3))
    with server.running():
        for pair in wrong:
            assert drained(chain, tls(server, pair)) == 0
            assert (progress(chain).sent, progress(chain).waiting) == (0, 3)
            assert f"tls://{HOST}:{server.port}" in progress(chain).reason
        wait_until(lambda: drained(chain, tls(server)) == 3, 60, "the messages to be taken")
        server.arrived(3)
    assert server.messages == lines(chain)


def test_datagrams_arrive_whole(chain: Chain, server: Rsyslog) -> None:
    """RFC 5426: a message each, to the octet."""
    chain.append(documents(1, 5, length=2000))
    with server.running():
        assert drained(chain, UdpLink(repository=Repository(secure=False, host=HOST, port=server.port))) == 5
        assert server.arrived(5) == lines(chain)
