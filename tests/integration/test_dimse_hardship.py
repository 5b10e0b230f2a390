"""The listener where something is short: time that a caller draws out, threads, a ledger that does not answer."""

import socket
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.dimse import requestor
from daemon.dimse.listener import Listener, ListenerSettings
from daemon.domain.delivery import Destination
from daemon.domain.trust import ServerTls
from daemon.errors import RetryableError
from demo.ports import HOST
from tests.certificates import Authority
from tests.peers import wait_until
from tests.receptions import RememberingReception

SETTINGS = ListenerSettings(ae_title="OVERREAD", port=0, allow_any_caller=True)


def answers(listener: Listener) -> bool:
    """Tell whether the listener verifies."""
    return requestor.echo(Destination(name="self", ae_title="OVERREAD", host=HOST, port=listener.port), "TESTER").ok


def _secured(folder: Path) -> tuple[ServerTls, ssl.SSLContext]:
    authority = Authority(folder)
    credentials = authority.issue("overread", f"IP:{HOST}").credentials(authority)
    context = ssl.create_default_context(cafile=authority.certificate)
    return ServerTls(credentials=credentials, client_certificates=False), context


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_a_caller_that_asks_octet_by_octet_is_hung_up_on(tmp_path: Path, secure: bool) -> None:  # noqa: FBT001
    """The time to ask for an association is one time, however little of the request comes how often."""
    tls, context = _secured(tmp_path) if secure else (None, None)
    with Listener(replace(SETTINGS, association_seconds=5.0, tls=tls), RememberingReception()) as listener:
        raw = socket.create_connection((HOST, listener.port), 20)
        link = context.wrap_socket(raw, server_hostname=HOST) if context else raw
        began, request = time.monotonic(), b"\x01\x00\x00\x01\x00\x00"
        with link, suppress(OSError):
            while time.monotonic() < began + 60:
                link.sendall(request[:1] or b"\x00")
                request = request[1:]
                time.sleep(0.2)
        assert time.monotonic() < began + 60


def test_a_machine_without_a_thread_left_loses_a_connection_not_the_listener(caplog: pytest.LogCaptureFixture) -> None:
    """Who calls while no thread can be started is hung up on; who calls after that is served."""
    with Listener(SETTINGS, RememberingReception()) as listener:
        threading.stack_size(1 << 47)  # more than there is to map
        try:
            with socket.create_connection((HOST, listener.port), 20) as link:
                assert link.recv(1) == b""
        finally:
            threading.stack_size(0)
        assert "a connection could not be served" in caplog.text
        assert answers(listener)


class Forgetful(RememberingReception):
    """A reception whose ledger does not answer while `away`."""

    def __init__(self) -> None:
        super().__init__()
        self.away, self.asked = threading.Event(), 0

    def association_closed(self, association: str) -> None:
        """Note it, if that goes."""
        self.asked += 1
        if self.away.is_set():
            raise RetryableError("the ledger does not answer")
        super().association_closed(association)


def test_the_end_of_an_association_is_noted_once_the_ledger_answers() -> None:
    """A study waits for its open associations: one whose end could not be noted would hold it for ever."""
    reception = Forgetful()
    reception.away.set()
    with Listener(replace(SETTINGS, again_seconds=0.1), reception) as listener:
        assert answers(listener)
        wait_until(lambda: reception.asked > 1, 60, "a second attempt")
        assert reception.closed == []
        reception.away.clear()
        wait_until(lambda: len(reception.closed) == 1, 60, "the association to close")


def test_a_listener_that_stops_does_not_wait_for_the_ledger() -> None:
    """What stands open then is closed by the next start."""
    reception = Forgetful()
    reception.away.set()
    listener = Listener(replace(SETTINGS, again_seconds=600, stop_seconds=60), reception)
    listener.start()
    assert answers(listener)
    wait_until(lambda: reception.asked > 0, 60, "an attempt")
    began = time.monotonic()
    listener.stop()
    assert time.monotonic() < began + 30
