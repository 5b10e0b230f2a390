"""Objects on the connection itself: PDUs as the peer may take them, and answers however they come."""

import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from threading import Event

import pytest

from daemon.dimse.command import Answer, Command, respond, store_request
from daemon.dimse.statuses import Status
from daemon.dimse.wire import Wire
from daemon.errors import RefusedError, RetryableError

CT, UID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3.4"
REQUEST = store_request(CT, UID, 7)
ANSWER = respond(Command.parse(REQUEST), Status(code=0xA700))
ABORT = b"\x07\0\0\0\0\x04\0\0\0\0"


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection: ours and the peer's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def pdu(*values: tuple[int, bytes]) -> bytes:
    """Return a P-DATA-TF of presentation data values: control header and fragment each (PS3.8 9.3.5)."""
    body = b"".join(struct.pack(">LBB", len(data) + 2, 1, control) + data for control, data in values)
    return struct.pack(">BxL", 4, len(body)) + body


def stored(line: Wire, data: bytes, size: int | None = None) -> Answer:
    """Send `data`, said to be of `size` bytes, as instance `UID`; return the answer."""
    line.load(REQUEST, 1, BytesIO(data), len(data) if size is None else size)
    line.send()
    return line.answer()


def said(theirs: socket.socket) -> list[tuple[int, int, bytes]]:
    """Return the PDUs that we sent: length, control header and fragment of each."""
    theirs.settimeout(5)
    heard, found = theirs.recv(1 << 20), []
    while heard:
        length, size, control = struct.unpack(">2xLLxB", heard[:12])
        assert length == size + 4
        found.append((length, control, heard[12 : 6 + length]))
        heard = heard[6 + length :]
    return found


@pytest.mark.parametrize("longest", [0, 16, 17, 100, 1 << 20])
@pytest.mark.parametrize("size", [0, 2, 94, 300])
def test_a_peer_gets_no_pdu_longer_than_it_takes(
    ends: tuple[socket.socket, socket.socket], longest: int, size: int
) -> None:
    """Command set, then data set, in even fragments of which the last says so; 0 is no limit (PS3.8 D.1.1)."""
    ours, theirs = ends
    data = bytes(range(250)) * 4
    theirs.sendall(pdu((3, ANSWER)))
    assert stored(Wire(ours, longest, 5), data[:size]).status == 0xA700
    sent = said(theirs)
    assert all(length <= (longest or 1 << 17) and not length % 2 for length, _, _ in sent)
    for kind, whole in ((1, REQUEST), (0, data[:size])):
        parts = [(control, data) for _, control, data in sent if control & 1 == kind]
        assert b"".join(data for _, data in parts) == whole
        assert [control & 2 for control, _ in parts] == [0] * (len(parts) - 1) + [2]
    assert [control & 1 for _, control, _ in sent] == sorted((control & 1 for _, control, _ in sent), reverse=True)


@pytest.mark.parametrize(
    "answers",
    [
        [pdu((3, ANSWER))],
        [pdu((1, ANSWER[:10]), (3, ANSWER[10:]))],
        [pdu((1, ANSWER[:10])), pdu((3, ANSWER[10:]))],
        [pdu((3, ANSWER))[at : at + 1] for at in range(len(pdu((3, ANSWER))))],
    ],
)
def test_an_answer_may_come_in_parts(ends: tuple[socket.socket, socket.socket], answers: list[bytes]) -> None:
    """Of values, of PDUs or octet by octet."""
    ours, theirs = ends
    with ThreadPoolExecutor(1) as pool:
        pool.map(theirs.sendall, answers)
        answer = stored(Wire(ours, 0, 5), b"")
    assert answer == Answer(status=0xA700, offending=())


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        ABORT,
        pdu((3, ANSWER))[:20],
        pdu((3, ANSWER[:20])),
        pdu((3, REQUEST)),
        struct.pack(">BxL", 4, 1 << 30),
        pdu(*[(1, b"\0" * 1000)] * 70),
        struct.pack(">BxLLBB", 4, 6, 0, 1, 3) * 20_000,
    ],
    ids=["nothing", "abort", "half", "torn", "no answer", "huge", "endless", "empty"],
)
def test_what_is_no_answer_is_tried_again(ends: tuple[socket.socket, socket.socket], answer: bytes) -> None:
    """Silence after it included; none of it keeps the sender, or costs more than a command set may have."""
    ours, theirs = ends
    with ThreadPoolExecutor(1) as pool:
        telling = pool.submit(theirs.sendall, answer)
        with pytest.raises(RetryableError):
            stored(Wire(ours, 0, 0.5), b"data")
        ours.close()
        assert telling.exception() is None or isinstance(telling.exception(), OSError)


def test_a_file_that_became_shorter_is_tried_again(ends: tuple[socket.socket, socket.socket]) -> None:
    """What was announced is not there: nothing is made up in its place."""
    with pytest.raises(RetryableError, match="shorter"):
        stored(Wire(ends[0], 0, 0.5), b"data", 6)


def test_a_peer_that_reads_nothing_keeps_nobody(ends: tuple[socket.socket, socket.socket]) -> None:
    """Its time ends as that of an answer does."""
    with pytest.raises(RetryableError):
        stored(Wire(ends[0], 0, 0.2), bytes(1 << 24))


def test_an_answer_names_the_elements_that_offend() -> None:
    """As tags; one that is cut off is malformed."""
    body = ANSWER[12:] + struct.pack("<HHLHHHH", 0, 0x0901, 8, 0x0008, 0x0018, 0x0010, 0x0020)
    assert Answer.parse(body).offending == (0x00080018, 0x00100020)
    with pytest.raises(RefusedError):
        Answer.parse(ANSWER[12:] + struct.pack("<HHLHB", 0, 0x0901, 3, 0x0008, 0x18))


@pytest.mark.parametrize("longest", [16, 1000, 0])
def test_what_can_lie_ready_goes_only_when_it_is_told_to(
    ends: tuple[socket.socket, socket.socket], longest: int
) -> None:
    """The largest of it included; of one more octet some goes at once."""
    ours, theirs = ends
    line = Wire(ours, longest, 5)
    size = max(size for size in range(0, 1 << 21, 2) if line.holds(REQUEST, size))
    assert size > 1 << 17
    theirs.setblocking(False)
    line.load(REQUEST, 1, BytesIO(bytes(size)), size)
    with pytest.raises(BlockingIOError):
        theirs.recv(1)
    theirs.settimeout(5)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(line.send)
        sending.add_done_callback(lambda _: ours.shutdown(socket.SHUT_WR))
        heard = sum(iter(lambda: len(theirs.recv(1 << 20)), 0))
    assert sending.exception() is None
    assert heard > size


def test_an_answer_octet_by_octet_is_in_time_as_a_whole_or_not(ends: tuple[socket.socket, socket.socket]) -> None:
    """A peer that is never late for the next octet cannot keep us."""
    ours, theirs = ends
    over = Event()

    def trickle() -> None:
        with suppress(OSError):
            for octet in pdu((3, REQUEST)):
                theirs.sendall(bytes([octet]))
                if over.wait(0.1):
                    return

    with ThreadPoolExecutor(1) as pool:
        pool.submit(trickle)
        with pytest.raises(RetryableError, match="in time"):
            stored(Wire(ours, 0, 0.5), b"data")
        over.set()
