"""pynetdicom's upper layer for associations that we ask for, without its polling.

Stock pynetdicom 3.0.4 sleeps for a millisecond before each look for something to send or to read. Here the same loop
sleeps in the kernel, until the peer sends something or somebody here wants to. pynetdicom is pinned, because this
replaces one of its internal methods.
"""

import contextlib
import select
import socket
import ssl
import threading
import time

from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider

from daemon.dimse.pdu import AWAITING_CLOSE, IDLE

# The loop looks at its timers so often at least.
_LONGEST_MS = 20
_OVER_SECONDS = 0.01


class WakingDul(DULServiceProvider):
    """The upper layer of one association; whoever queues something for the peer wakes it."""

    def __init__(self, association: Association) -> None:
        super().__init__(association)
        self._run_loop_delay = 0
        self._told, self._tell = socket.socketpair()
        self._ends = threading.Lock()
        for end in (self._told, self._tell):
            end.setblocking(False)

    def send_pdu(self, primitive: object) -> None:
        """Queue a primitive, and wake the loop that sends it."""
        super().send_pdu(primitive)
        self._wake()

    def stop_dul(self) -> bool:
        """End the loop where the association is over; return whether it was, or is within ten milliseconds."""
        deadline = time.monotonic() + _OVER_SECONDS
        while self.state_machine.current_state != IDLE:
            if time.monotonic() > deadline:
                return False
            time.sleep(_OVER_SECONDS / 20)
        self._kill_thread = True
        self._wake()
        self.join()
        return True

    def _wake(self) -> None:
        with self._ends, contextlib.suppress(OSError):  # full, it wakes as well; closed, nobody sleeps
            self._tell.send(b"!")

    def run_reactor(self) -> None:
        """Run the loop to its end."""
        try:
            super().run_reactor()
        finally:
            with self._ends:
                self._told.close()
                self._tell.close()

    def _is_transport_event(self) -> bool:
        """Wait for something to do, then look as pynetdicom does."""
        self._wait()
        return bool(super()._is_transport_event())

    def _wait(self) -> None:
        connection = self.socket.socket if self.socket and self.socket._is_connected else None  # noqa: SLF001
        busy = not self.event_queue.empty() or self.state_machine.current_state == AWAITING_CLOSE
        if busy or (isinstance(connection, ssl.SSLSocket) and connection.pending()):
            return
        watched = select.poll()
        watched.register(self._told, select.POLLIN)
        if connection is not None and connection.fileno() >= 0:
            watched.register(connection, select.POLLIN)
        watched.poll(_LONGEST_MS)
        with contextlib.suppress(BlockingIOError):
            self._told.recv(4096)
