"""The audit log goes on to a repository: by the grammar, in order, none left out, and none twice without need."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import count as counting
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from daemon.audit.chain import Chain
from daemon.audit.forward import Forwarder, progress
from daemon.audit.links import Link, TlsLink, UdpLink
from daemon.audit.syslog import encode
from daemon.bootstrap import House
from daemon.cli import doctor
from daemon.cli.main import app
from daemon.clock import SystemClock
from daemon.config import load
from daemon.dimse.tls import client_context, explain
from daemon.domain.audit import log_used
from daemon.domain.repository import Repository
from daemon.errors import RetryableError
from demo.ports import HOST, free_port
from tests.certificates import Authority
from tests.repositories import SYSLOG, Habit, Server, repository

RUNNER = CliRunner()
XML = '<AuditMessage id="{}">Grüße 漢字</AuditMessage>'


def documents(first: int, count: int) -> list[dict[str, object]]:
    """Return lines of the log, as the trail writes them."""
    at = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC).isoformat(timespec="milliseconds")
    return [{"time": at, "outcome": 0, "message": XML.format(first + n)} for n in range(count)]


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    """Return a log of five messages."""
    made = Chain(tmp_path / "audit.log")
    made.append(documents(1, 5))
    return made


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return an authority."""
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server(authority: Authority) -> Iterator[Server]:
    """Run a repository."""
    with repository(authority.issue("arr", f"IP:{HOST}"), authority) as running:
        yield running


@pytest.fixture
def link(server: Server, authority: Authority) -> TlsLink:
    """Return the way there, with our certificate; batches of two, so that it takes three."""
    ours = authority.issue("overread").credentials(authority)
    place = Repository(secure=True, host=HOST, port=server.port)
    return TlsLink(repository=place, context=partial(client_context, ours), explain=explain, seconds=20.0, most=2)


def forwarder(chain: Chain, link: Link, elapsed: Callable[[], float] = time.monotonic) -> Forwarder:
    """Return one that has not waited yet, as after a restart."""
    return Forwarder(chain, link, SystemClock(), "reader.hospital.example", elapsed)


def drained(chain: Chain, link: Link) -> list[int]:
    """Step until nothing is sent, with a second between; return how many went at each step."""
    one, counts = forwarder(chain, link, partial(next, counting())), []
    while count := one.step():
        counts.append(count)
    return counts


@given(
    hostname=st.text(),
    outcome=st.sampled_from([0, 4, 8, 12]),
    number=st.integers(1, 2**40),
    time=st.one_of(st.text(), st.datetimes(timezones=st.just(UTC)).map(lambda at: at.isoformat())),
    message=st.text(st.characters(exclude_categories=["Cs"])),
)
def test_messages_follow_the_grammar(hostname: str, outcome: int, number: int, time: str, message: str) -> None:
    """RFC 5424 section 6, whatever the machine is called; priority 85, or 84 from serious failure on (PS3.15 A.6)."""
    line = encode({"number": number, "time": time, "outcome": outcome, "message": message}, hostname)
    match = SYSLOG.fullmatch(line.decode())
    assert match
    assert (match["priority"], match["message"]) == ("84" if outcome >= 8 else "85", message)
    assert (match["app"], match["id"]) == ("overread", "DICOM+RFC3881")
    sequence = int(match["data"].partition('"')[2].partition('"')[0])
    assert 1 <= sequence <= 2147483647


def test_the_log_arrives_in_order_and_once(chain: Chain, server: Server, link: TlsLink) -> None:
    """In batches, over mutual TLS; then nothing; then what was added, also by another process."""
    assert drained(chain, link) == [2, 2, 1]
    assert drained(chain, link) == []
    assert progress(chain).waiting == 0
    chain.append(documents(6, 1))
    assert progress(chain).waiting == 1
    assert drained(chain, link) == [1]
    assert server.sequences() == [1, 2, 3, 4, 5, 6]
    assert XML.format(3) in server.messages[2]
    assert "2026-05-04T03:02:01.000+00:00 reader.hospital.example overread" in server.messages[2]
    assert (server.connections, server.faults) == (4, [])


def test_a_second_lies_between_two_batches(chain: Chain) -> None:
    """However often it is asked to: a log that has waited for long is no burst, and batches are bounded."""
    now, sent = [50.0], []

    class Counts:
        """Takes everything."""

        most = 2

        def send(self, messages: Sequence[bytes]) -> None:
            sent.append((now[0], len(messages)))

        def probe(self) -> str:
            return ""

    one = forwarder(chain, Counts(), lambda: now[0])
    for moment in (50.0, 50.0, 50.5, 50.999, 51.0, 51.0, 51.5, 52.0, 53.0):
        now[0] = moment
        one.step()
    assert sent == [(50.0, 2), (51.0, 2), (52.0, 1)]


@pytest.mark.parametrize("habit", [Habit.DROPS, Habit.DEAF])
def test_a_connection_that_breaks_loses_nothing(chain: Chain, server: Server, link: TlsLink, habit: Habit) -> None:
    """What was under way comes again, with the same sequenceId, and what had arrived does not."""
    assert forwarder(chain, link).step() == 2
    server.habit = habit
    for _ in range(2):
        assert forwarder(chain, replace(link, seconds=1.0)).step() == 0
    waiting = progress(chain)
    assert (waiting.sent, waiting.waiting, waiting.failures) == (2, 3, 2)
    assert str(link.repository) in waiting.reason
    server.habit = Habit.ORDERLY
    assert drained(chain, link) == [2, 1]
    got = server.sequences()
    assert set(got) == {1, 2, 3, 4, 5}
    assert (got.count(1), got.count(2), got.count(5)) == (1, 1, 1)
    assert (progress(chain).failures, progress(chain).reason) == (0, "")


def test_a_repository_that_ends_without_close_notify_is_not_sent_everything_again(
    chain: Chain, server: Server, link: TlsLink
) -> None:
    """Against RFC 5425, but it has read every octet."""
    server.habit = Habit.BLUNT
    assert drained(chain, link) == [2, 2, 1]
    assert server.sequences() == [1, 2, 3, 4, 5]


def test_a_repository_that_left_before_is_not_believed(server: Server, link: TlsLink) -> None:
    """Its end of the stream is no answer to what was sent after it, though TCP has taken that."""
    server.habit = Habit.LEAVES

    class Late(list[bytes]):
        """Messages that are there once the repository has left."""

        def __iter__(self) -> Iterator[bytes]:
            assert server.left.wait(30)
            return super().__iter__()

    with pytest.raises(RetryableError, match="it hung up before it had everything"):
        link.send(Late([b"x"]))


def test_failures_are_waited_out(chain: Chain, link: TlsLink, server: Server) -> None:
    """After one there is no second attempt at once."""
    server.habit = Habit.DROPS
    one = forwarder(chain, link)
    assert [one.step(), one.step(), one.step()] == [0, 0, 0]
    assert progress(chain).failures == 1


def test_a_stranger_gets_nothing(
    chain: Chain, tmp_path: Path, server: Server, link: TlsLink, authority: Authority
) -> None:
    """A repository of another authority, one that does not know ours, and nobody at all: each in its words."""
    other = Authority(tmp_path / "other")
    theirs = other.issue("overread").credentials(other)
    for credentials, said in (
        (theirs, "its certificate is not accepted: self-signed certificate in certificate chain"),
        (
            replace(theirs, authorities=authority.certificate),
            "authority of our certificate|may not accept our certificate",
        ),
    ):
        stranger = replace(link, context=partial(client_context, credentials))
        with pytest.raises(RetryableError, match=said):
            stranger.send([b"x"])
    nobody = Repository(secure=True, host=HOST, port=free_port())
    with pytest.raises(RetryableError, match="nothing listens there"):
        replace(link, repository=nobody).send([b"x"])
    assert forwarder(chain, link).step() == 2
    assert server.sequences() == [1, 2]


def test_another_log_is_sent_from_its_start(chain: Chain, server: Server, link: TlsLink) -> None:
    """A log that was moved away leaves its position behind, which is not that of the new one."""
    assert drained(chain, link) == [2, 2, 1]
    for suffix in (".log", ".head"):
        chain.path.with_suffix(suffix).rename(chain.path.with_suffix(f"{suffix}.old"))
    chain.append(documents(7, 1))
    assert progress(chain).waiting == 1
    assert drained(chain, link) == [1]
    assert XML.format(7) in server.messages[-1]


def test_a_damaged_line_is_passed_over_aloud(
    chain: Chain, server: Server, link: TlsLink, caplog: pytest.LogCaptureFixture
) -> None:
    """It cannot be sent; those after it are."""
    chain.path.write_bytes(
        chain.path.read_bytes().replace(b'"message": "<AuditMessage id=\\"3', b'"massage": "<AuditMessage id=\\"3')
    )
    assert sum(drained(chain, link)) == 4
    assert server.sequences() == [1, 2, 4, 5]
    assert "line 3 of the audit log is damaged" in caplog.text


def test_commands_tell_how_far_it_is(server: Server, authority: Authority, tmp_path: Path) -> None:
    """`audit status` before and after, and doctor: answered, or not with the reason."""
    assert RUNNER.invoke(app, ["init", str(tmp_path / "site")]).exit_code == 0
    path = tmp_path / "site" / "overread.toml"

    def status() -> str:
        return RUNNER.invoke(app, ["audit", "status", "--config", str(path)]).output

    assert "names nobody" in status()
    assert doctor._audit(House(load(path))) == "in the local log alone"
    ours = authority.issue("overread")
    text = path.read_text().replace('repository = ""', f'repository = "tls://{HOST}:{server.port}"')
    for key, file in (("certificate", ours.certificate), ("key", ours.key), ("authorities", authority.certificate)):
        text = text.replace(f"# {key} =", f'{key} = "{file}"')
    path.write_text(text)
    assert RUNNER.invoke(app, ["audit", "list", "--config", str(path)]).exit_code == 0
    assert "has 0 of 1 messages, 1 wait" in status()
    house = House(load(path))
    assert doctor._audit(house) == f"tls://{HOST}:{server.port} answers; 1 messages wait"
    sender = house.forwarder()
    assert sender
    assert sender.step() == 1
    assert "has 1 of 1 messages, 0 wait" in status()
    server.habit = Habit.DROPS
    house.trail.record([log_used(house.reporter("audit list"), house.clock.now(), "file:///audit.log")])
    again = house.forwarder()
    assert again
    assert again.step() == 0
    shown = json.loads(RUNNER.invoke(app, ["audit", "status", "--json", "--config", str(path)]).stdout)
    assert (shown["sent"], shown["waiting"], shown["failures"]) == (1, 1, 1)
    assert "1 failures since" in status()
    with pytest.raises(RetryableError, match="hung up"):
        doctor._audit(house)
    assert "Audit Log Used" in server.messages[0]


def test_two_processes_do_not_send_the_same(chain: Chain, server: Server, link: TlsLink) -> None:
    """One at a time: the position is locked while a batch is under way."""
    begun, go = threading.Event(), threading.Event()

    class Slow:
        """Waits in the middle of sending."""

        most = 2

        def send(self, messages: Sequence[bytes]) -> None:
            begun.set()
            assert go.wait(30)
            link.send(messages)

        def probe(self) -> str:
            return ""

    thread = threading.Thread(target=forwarder(chain, Slow()).step)
    thread.start()
    assert begun.wait(30)
    assert forwarder(chain, link).step() == 0
    go.set()
    thread.join()
    assert drained(chain, link) == [2, 1]
    assert server.sequences() == [1, 2, 3, 4, 5]


def test_datagrams_carry_a_message_each(chain: Chain) -> None:
    """RFC 5426; and one that is refused is told by the system, and kept."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind((HOST, 0))
        receiver.settimeout(10)
        link = UdpLink(repository=Repository(secure=False, host=HOST, port=receiver.getsockname()[1]), most=3)
        assert drained(chain, link) == [3, 2]
        received = [receiver.recv(1 << 16).decode() for _ in range(5)]
    assert all(SYSLOG.fullmatch(message) for message in received)
    assert [XML.format(n) in message for n, message in enumerate(received, start=1)] == [True] * 5
    chain.append(documents(6, 2))
    assert forwarder(chain, link).step() == 0
    assert (progress(chain).waiting, "nothing listens there" in progress(chain).reason) == (2, True)
    with pytest.raises(RetryableError, match="fits no datagram"):
        link.send([bytes(70_000)])
