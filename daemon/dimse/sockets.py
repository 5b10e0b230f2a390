"""pynetdicom's socket, mended; and the one of the listener, which sleeps in the kernel."""

import contextlib
import socket
import struct
import time

from pynetdicom.association import Association
from pynetdicom.transport import T_CONNECT, AddressInformation, AssociationSocket

from daemon.domain.trust import Certificate

CLOSED = "Evt17"  # transport connection closed, PS3.8 9.2.2
_LEAST_SECONDS = 0.01


class MendedSocket(AssociationSocket):
    """An association's socket that sends at once and is always closed.

    With Nagle's algorithm and delayed ACK each object would take 40 ms longer. pynetdicom 3.0.4 leaves the
    descriptor open where the peer was never there or is already gone.
    """

    def _create_socket(self, address: AddressInformation) -> socket.socket:
        created: socket.socket = super()._create_socket(address)
        created.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return created

    def connect(self, primitive: T_CONNECT) -> None:
        """Connect; a read of TLS that stops inside a record ends in time, which pynetdicom does not see to."""
        super().connect(primitive)
        if self.tls_args and self.socket is not None:
            self.socket.settimeout(self.assoc.network_timeout)

    def _shutdown_socket(self) -> None:
        descriptor = self.socket
        super()._shutdown_socket()
        if descriptor is not None:
            descriptor.close()


class FastSocket(MendedSocket):
    """A blocking socket that fills whole buffers and raises TimeoutError when nothing comes."""

    def __init__(self, association: Association, connection: socket.socket) -> None:
        super().__init__(association, client_socket=connection)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(None)
        self._timeout: float | None = None
        self._deadline: float | None = None

    @property
    def certificate(self) -> Certificate | None:
        """The certificate that the peer proved itself by; none without TLS."""
        return None

    def secure(self, seconds: float) -> bool:
        """Make the connection safe within `seconds`, where that is to be; return False when the peer is gone.

        Raises:
            OverreadError: it cannot be made safe, and nothing may be said on it.
        """
        del seconds
        return True

    def finish(self) -> None:
        """Say that nothing more will be sent."""
        self.socket.shutdown(socket.SHUT_WR)

    def set_timeout(self, seconds: float) -> None:
        """Bound each following wait for data or buffer space to `seconds`.

        The kernel's own timeout is used: Python's makes the socket non-blocking and costs a poll per read.
        """
        if self.socket is None or seconds == self._timeout:
            return
        self._timeout = seconds
        bound_waits(self.socket, seconds)

    def limit(self, seconds: float | None) -> None:
        """Bound all that is read from now on, together, to `seconds`; None takes that bound away.

        A peer that sends an octet now and then is never late for the next one.
        """
        self._deadline = None if seconds is None else time.monotonic() + seconds

    def keep_in_time(self) -> None:
        """Let the next wait end with the limit.

        Raises:
            TimeoutError: that is over.
        """
        if self._deadline is None:
            return
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the peer took too long")
        self.set_timeout(max(_LEAST_SECONDS, min(left, self._timeout or left)))

    def fill(self, view: memoryview) -> bool:
        """Fill `view` from the peer; return False when the connection ended first.

        Raises:
            TimeoutError: nothing came within the time set, or not all within the limit.
        """
        filled = 0
        while filled < len(view):
            if self.socket is None:
                return False
            self.keep_in_time()
            try:
                count = self.socket.recv_into(view[filled:], 0, socket.MSG_WAITALL)
            except BlockingIOError as error:
                raise TimeoutError("the peer sent nothing in the time set") from error
            except OSError:
                return False
            if count == 0:
                return False
            filled += count
        return True

    def send(self, bytestream: bytes) -> None:
        """Send all of `bytestream`; a broken or stuck connection becomes the event that it closed."""
        try:
            if self.socket is not None:
                self.socket.sendall(bytestream)
        except OSError:
            self.event_queue.put(CLOSED)

    def wake(self) -> None:
        """End a wait for data from another thread, as if the peer had closed; sending still works."""
        with contextlib.suppress(OSError, AttributeError):
            self.socket.shutdown(socket.SHUT_RD)


def bound_waits(connection: socket.socket, seconds: float) -> None:
    """Let each wait of a blocking connection for data or buffer space end in the kernel after `seconds`, 0 for never.

    Raises:
        OSError: the connection is closed.
    """
    interval = struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, option, interval)
