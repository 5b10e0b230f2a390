"""C-STORE requests straight to the connection of an established association, and the answers from it.

pynetdicom 3.0.4 makes several objects of each fragment and hands every one to another thread, which takes longer than
the kernel does to send it. Here an object goes from its file to the connection through one buffer.
"""

import socket
import ssl
from io import BytesIO, RawIOBase
from time import monotonic

from daemon.dimse.command import Answer
from daemon.dimse.pdu import P_DATA_TF, PDU_HEADER, PDV_HEADER
from daemon.dimse.sockets import bound_waits
from daemon.errors import RefusedError, RetryableError

_HEADERS = PDU_HEADER.size + PDV_HEADER.size
# Message control header, PS3.8 E.2.
_DATA, _COMMAND, _LAST = 0x00, 0x01, 0x02
# An answer is a command set; a peer may fill it up.
_MOST_ANSWER = 1 << 16
# In less nothing fits.
_MOST_PDU, LEAST_PDU = 1 << 17, 8
# A request up to this, most CT and MR instances, lies ready before its turn; of others so much lies here at a time.
_ROOM = 8 * _MOST_PDU + (1 << 12)
# What goes in one call, and has the time of one.
_AT_ONCE = 1 << 18
_LEAST_SECONDS = 0.001


class Wire:
    """The connection of an association, whose peer takes PDUs of `longest` bytes, 0 for any, and has `seconds` each."""

    def __init__(self, connection: socket.socket, longest: int, seconds: float | None) -> None:
        self._connection = connection
        self._seconds = seconds
        # The kernel's own timeout saves a poll before each call, but does not end a read of TLS.
        self._secured = isinstance(connection, ssl.SSLSocket)
        self._flags = 0 if self._secured else socket.MSG_WAITALL
        self._bound: float | None = None
        if not self._secured:
            connection.settimeout(None)
        # An even number of bytes in each fragment, PS3.8 E.1.
        self._room = min(longest or _MOST_PDU, _MOST_PDU) - PDV_HEADER.size & ~1
        self._buffer = memoryview(bytearray(_ROOM))
        self._filled = 0

    def holds(self, command: bytes, size: int) -> bool:
        """Return whether a request with `size` bytes of data set can lie ready, so that `load` sends nothing of it."""
        fragments = 2 + len(command) // self._room + size // self._room
        return len(command) + size + fragments * _HEADERS <= _ROOM

    def load(self, command: bytes, context_id: int, data: RawIOBase | BytesIO, size: int) -> None:
        """Lay a command set and the `size` bytes of its data set ready; send what there is no room for.

        Raises:
            RetryableError: the connection broke, or the data set ends before.
        """
        self._filled = 0
        self._add(BytesIO(command), len(command), context_id, _COMMAND)
        self._add(data, size, context_id, _DATA)

    def send(self) -> None:
        """Send what lies ready.

        Raises:
            RetryableError: the connection broke, or the peer takes nothing in time.
        """
        view, self._filled = self._buffer[: self._filled], 0
        try:
            for begin in range(0, len(view), _AT_ONCE):
                self._put(view[begin : begin + _AT_ONCE])
        except OSError as error:
            raise _broken() from error

    def answer(self) -> Answer:
        """Return the answer to what was sent.

        Raises:
            RetryableError: the connection broke, no answer came in time, or what came is none.
        """
        try:
            return Answer.parse(self._command_set())
        except RefusedError as error:
            raise RetryableError(f"the destination answered with what is no answer: {error}") from error

    def _add(self, source: RawIOBase | BytesIO, size: int, context_id: int, kind: int) -> None:
        left = size
        while True:
            wanted = min(left, self._room)
            if self._filled + _HEADERS + wanted > _ROOM:
                self.send()
            begin, start = self._filled, self._filled + _HEADERS
            got = source.readinto(self._buffer[start : start + wanted]) if wanted else 0
            if got < wanted:
                raise RetryableError("the file became shorter while it was sent")
            left -= got
            PDU_HEADER.pack_into(self._buffer, begin, P_DATA_TF, PDV_HEADER.size + got)
            control = kind if left else kind | _LAST
            PDV_HEADER.pack_into(self._buffer, begin + PDU_HEADER.size, got + 2, context_id, control)
            self._filled = start + got
            if not left:
                return

    def _command_set(self) -> bytes:
        """Return the next command set."""
        deadline = self._deadline()
        encoded = bytearray()
        while True:
            kind, length = PDU_HEADER.unpack(self._taken(PDU_HEADER.size, deadline))
            if kind != P_DATA_TF or len(encoded) + length > _MOST_ANSWER:
                raise _broken()
            body, offset = self._taken(length, deadline), 0
            while offset + PDV_HEADER.size <= length:
                size, _, control = PDV_HEADER.unpack_from(body, offset)
                encoded += body[offset + PDV_HEADER.size : offset + 4 + size]
                offset += 4 + max(size, 2)
                if control & _COMMAND and control & _LAST:
                    return bytes(encoded)

    def _put(self, view: memoryview) -> None:
        deadline = self._deadline()
        while view:
            self._limit(deadline)
            view = view[self._connection.send(view) :]

    def _taken(self, count: int, deadline: float | None) -> bytes:
        taken = bytearray(count)
        view = memoryview(taken)
        while view:
            try:
                self._limit(deadline)
                got = self._connection.recv_into(view, 0, self._flags)
            except OSError as error:
                raise _broken() from error
            if not got:
                raise _broken()
            view = view[got:]
        return bytes(taken)

    def _deadline(self) -> float | None:
        return None if self._seconds is None else monotonic() + self._seconds

    def _limit(self, deadline: float | None) -> None:
        """Let the next call end at the deadline, or little later: what was set for the call before stays if it fits."""
        if deadline is None or self._seconds is None:
            return
        left = max(deadline - monotonic(), _LEAST_SECONDS)
        if self._secured:
            self._connection.settimeout(left)
        elif self._bound is None or abs(self._bound - left) > self._seconds / 10:
            self._bound = left
            bound_waits(self._connection, left)


def _broken() -> RetryableError:
    return RetryableError("the association broke off, or no answer came in time")
