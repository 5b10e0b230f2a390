"""Associations to store on: how they begin and end, whatever a peer makes of them."""

import socket
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from pydicom.uid import ExplicitVRLittleEndian

from daemon.dimse.calling import calling
from daemon.dimse.requestor import Limits, NotOfferedError
from daemon.domain.delivery import Destination
from daemon.errors import RetryableError, UnreachableError
from demo.ports import HOST
from tests.dicom_files import CT

PROPOSED = [(CT, str(ExplicitVRLittleEndian))]
LIMITS = Limits(connect_seconds=20, association_seconds=20, answer_seconds=20)
BRIEF = Limits(connect_seconds=20, association_seconds=0.2, answer_seconds=20)
RELEASE, RELEASED, ABORT = (bytes((kind, 0, 0, 0, 0, 4, 0, 0, 0, 0)) for kind in (5, 6, 7))


def item(kind: int, value: bytes) -> bytes:
    """Return an item of an association PDU."""
    return struct.pack(">BxH", kind, len(value)) + value


def accepting(longest: int = 0, result: int = 0) -> bytes:
    """Return an A-ASSOCIATE-AC with one context (PS3.8 9.3.3)."""
    context = item(0x21, bytes((1, 0, result, 0)) + item(0x40, str(ExplicitVRLittleEndian).encode()))
    body = struct.pack(">H66x", 1) + context + item(0x50, item(0x51, struct.pack(">L", longest)))
    return struct.pack(">BxL", 2, len(body)) + body


def heard(connection: socket.socket, count: int) -> bytes:
    """Return so many octets, or what came before the end."""
    taken = b""
    with suppress(ConnectionResetError):
        while len(taken) < count and (more := connection.recv(count - len(taken))):
            taken += more
    return taken


@pytest.fixture
def peer() -> Iterator[Callable[..., tuple[Destination, Callable[[], bytes]]]]:
    """A peer that reads a proposal, says its words each after ten octets more, and keeps what it heard."""
    with ThreadPoolExecutor(1) as pool, socket.create_server((HOST, 0)) as server:

        def serve(words: tuple[bytes, ...]) -> bytes:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(20)
                (length,) = struct.unpack(">2xL", heard(connection, 6))
                heard(connection, length)
                told = b""
                for word in words:
                    connection.sendall(word)
                    told += heard(connection, 10)
                return told

        def start(*words: bytes) -> tuple[Destination, Callable[[], bytes]]:
            target = Destination(name="pacs", ae_title="PACS", host=HOST, port=server.getsockname()[1])
            return target, pool.submit(serve, words).result

        yield start


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        (b"", "hangs up"),
        (ABORT, "hangs up"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "hangs up"),
        (struct.pack(">BxL", 2, 1 << 31), "hangs up"),
        (accepting()[:40], "hangs up"),
        (struct.pack(">BxLH", 2, 2, 1), "accepts none"),
        (struct.pack(">BxL66xH", 2, 70, 1) + b"\x21\0\0\x09", "hangs up"),
        (struct.pack(">BxLxBBB", 3, 4, 1, 1, 3), "calling ae title not recognised"),
        (struct.pack(">BxLxBBB", 3, 4, 2, 3, 2), "rejected (transient): local limit exceeded"),
        (struct.pack(">BxLxBBB", 3, 4, 9, 0, 7), "(9, 0, 7)"),
        (struct.pack(">BxL", 3, 0), "hangs up"),
        (accepting(result=3), "accepts none"),
    ],
)
def test_what_is_no_association_is_said(
    peer: Callable[..., tuple[Destination, Callable[[], bytes]]], word: bytes, reason: str
) -> None:
    """A rejection with its reason; else that nobody there speaks DICOM."""
    target, _ = peer(word)
    with (
        pytest.raises((UnreachableError, NotOfferedError), match="pacs") as error,
        calling(target, "US", PROPOSED, BRIEF),
    ):
        pytest.fail("no association")
    assert reason in str(error.value)


def test_a_peer_that_takes_four_octets_is_told_apart(
    peer: Callable[..., tuple[Destination, Callable[[], bytes]]],
) -> None:
    """Nothing fits in its PDUs; the association is aborted."""
    target, told = peer(accepting(longest=4))
    with pytest.raises(RetryableError, match="4 bytes"), calling(target, "US", PROPOSED, LIMITS):
        pytest.fail("nothing fits")
    assert told() == ABORT


@pytest.mark.parametrize("words", [(RELEASED,), (RELEASE, RELEASED), (ABORT,), (b"\x04\0\0\0\0\x02ab" + RELEASED,)])
def test_an_association_is_released(
    peer: Callable[..., tuple[Destination, Callable[[], bytes]]], words: tuple[bytes, ...]
) -> None:
    """Both may ask for that at once (PS3.8 7.2.2), and what is still under way is passed over."""
    target, told = peer(accepting(), *words)
    with calling(target, "US", PROPOSED, LIMITS) as (_, acceptance):
        assert acceptance.contexts == {PROPOSED[0]: 1}
    assert told()[:20] == RELEASE + (RELEASED if words[0] == RELEASE else b"")


def test_without_word_of_a_release_it_ends_all_the_same(
    peer: Callable[..., tuple[Destination, Callable[[], bytes]]],
) -> None:
    """By an abort."""
    target, told = peer(accepting(), b"")
    with calling(target, "US", PROPOSED, BRIEF):
        pass
    assert told() == RELEASE + ABORT


def test_an_error_aborts(peer: Callable[..., tuple[Destination, Callable[[], bytes]]]) -> None:
    """The peer is not left to think that all was well."""
    target, told = peer(accepting())
    with pytest.raises(ZeroDivisionError), calling(target, "US", PROPOSED, LIMITS):
        raise ZeroDivisionError
    assert told() == ABORT
