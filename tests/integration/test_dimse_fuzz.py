"""Whatever bytes come in, the listener goes on: no unexpected fault, nothing left open, the next sender is served."""

import logging
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.dimse.listener import Listener, ListenerSettings
from daemon.dimse.requestor import echo
from daemon.domain.delivery import Destination
from demo.ports import HOST
from tests.fuzzing import recorded
from tests.mutations import CHANGES, Change, changed
from tests.peers import wait_until
from tests.receptions import RememberingReception

EXAMPLES = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def here(port: int) -> Destination:
    """Return the listener as a destination."""
    return Destination(name="self", ae_title="OVERREAD", host=HOST, port=port)


@pytest.fixture(scope="module")
def reception() -> RememberingReception:
    """What arrived."""
    return RememberingReception()


@pytest.fixture(scope="module")
def listener(reception: RememberingReception) -> Iterator[Listener]:
    """A listener that hangs up on the silent soon."""
    usual = ListenerSettings(ae_title="OVERREAD", port=0, allow_any_caller=True, network_seconds=20, idle_seconds=20)
    with Listener(usual, reception) as running:
        yield running


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """All bytes that a real sender sends to store a CT image and release."""
    return recorded(tmp_path_factory.mktemp("ct"))


def say(port: int, words: bytes) -> None:
    """Say everything at once, then listen until the other side hangs up."""
    with socket.create_connection((HOST, port), timeout=30) as link, suppress(ConnectionError):
        link.sendall(words)
        link.shutdown(socket.SHUT_WR)
        while link.recv(1 << 16):
            pass


def test_the_recorded_stream_is_stored(listener: Listener, reception: RememberingReception, stream: bytes) -> None:
    """Unchanged, the recorded bytes are a whole C-STORE: the changes below start from something that works."""
    before = len(reception.objects)
    say(listener.port, stream)
    wait_until(lambda: len(reception.objects) == before + 1, 60, "the object")


@EXAMPLES
@given(changes=CHANGES)
def test_a_changed_stream_hurts_nobody_else(
    listener: Listener,
    reception: RememberingReception,
    stream: bytes,
    caplog: pytest.LogCaptureFixture,
    changes: list[Change],
) -> None:
    """Bytes lost, added or changed anywhere end at most their own association, in a way that was foreseen."""
    caplog.clear()
    with caplog.at_level(logging.ERROR, logger="daemon"):
        say(listener.port, changed(stream, changes))
        assert echo(here(listener.port), "TESTER").ok
    assert [r.getMessage() for r in caplog.records if r.name.startswith("daemon")] == []
    wait_until(lambda: len(reception.closed) >= len(reception.opened), 60, "all associations to be closed")
    assert all(one.finished or one.aborted for one in reception.objects)


@EXAMPLES
@given(noise=st.binary(max_size=2000))
def test_noise_hurts_nobody(listener: Listener, noise: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """What is no DICOM at all is dropped."""
    caplog.clear()
    with caplog.at_level(logging.ERROR, logger="daemon"):
        say(listener.port, noise)
        assert echo(here(listener.port), "TESTER").ok
    assert [r.getMessage() for r in caplog.records if r.name.startswith("daemon")] == []
