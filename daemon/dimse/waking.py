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
from collections.abc import Iterator

from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider

from daemon.dimse.pdu import AWAITING_CLOSE, ESTABLISHED, IDLE
from daemon.errors import RetryableError

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
        # Whoever has it has the connection; the loop, while it is awake.
        self._turn = threading.Lock()
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
            with self._turn:
                super().run_reactor()
        finally:
            with self._ends:
                self._told.close()
                self._tell.close()

    @contextlib.contextmanager
    def resting(self) -> Iterator[socket.socket]:
        """Keep the loop asleep and yield the connection, which is the caller's meanwhile.

        Raises:
            RetryableError: there is none any more.
        """
        with self._turn:
            connection = self.socket.socket if self.socket else None
            if connection is None or self.state_machine.current_state != ESTABLISHED:
                raise RetryableError("the association broke off")
            seconds = connection.gettimeout()
            try:
                yield connection
            finally:
                with contextlib.suppress(OSError):
                    connection.settimeout(seconds)
                self._idle_timer.restart()

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
        self._turn.release()
        try:
            watched.poll(_LONGEST_MS)
        finally:
            self._turn.acquire()
        with contextlib.suppress(BlockingIOError):
            self._told.recv(4096)


@contextlib.contextmanager
def still(association: Association) -> Iterator[None]:
    """Keep an association's own loop over messages from running."""
    association._reactor_checkpoint.clear()  # noqa: SLF001
    try:
        while not association._is_paused and association.is_established:  # noqa: SLF001
            time.sleep(0.0001)  # the loop looks at the checkpoint every millisecond
        yield
    finally:
        association._reactor_checkpoint.set()  # noqa: SLF001
