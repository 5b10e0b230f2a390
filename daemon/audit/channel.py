"""A TLS connection that ends with proof: what was sent counts once the other side answers our close_notify.

`ssl.SSLSocket.unwrap` cannot tell that: it takes a fatal alert for an answer, such as that for our certificate, which
comes after the handshake in TLS 1.3. Here TLS works on memory, and what comes back is read on its own.
"""

import errno
import fcntl
import os
import socket
import ssl
import struct
import termios
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

_CHUNK = 1 << 16
_ESTABLISHED = 1  # of a TCP connection's states, the first octet of TCP_INFO
_T = TypeVar("_T")


class Channel:
    """A connected socket under TLS; each wait is bounded by the socket's own time limit."""

    def __init__(self, raw: socket.socket, context: ssl.SSLContext, hostname: str) -> None:
        self._raw = raw
        self._heard, self._said = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._heard, self._said, server_hostname=hostname)

    def shake_hands(self) -> None:
        """Agree on keys and judge the certificate.

        Raises:
            OSError: it fails; an ssl.SSLError says why.
        """
        self._until_done(self._tls.do_handshake)

    def send(self, content: bytes) -> None:
        """Send bytes.

        Raises:
            OSError: the connection broke.
        """
        view = memoryview(content)
        while view:
            view = view[self._tls.write(view[:_CHUNK]) :]
            self._flush()

    def finish(self) -> None:
        """Say that nothing more comes, and wait until the other side says that it read it (RFC 5425 4.4).

        One that just ends its stream then, which RFC 5425 forbids, is believed where TCP has acknowledged every octet:
        a reset would have come had it left any unread.

        Raises:
            OSError: it hung up before, refuses us, or did not answer in time.
        """
        ended = self._raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != _ESTABLISHED
        with suppress(ssl.SSLWantReadError):
            while self._tls.read(1):  # what came already: an alert would be lost in `unwrap`
                pass
            ended = True
        with suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        self._flush()
        try:
            while self._until_done(lambda: self._tls.read(1)):
                pass
        except ssl.SSLZeroReturnError:
            pass
        except ssl.SSLEOFError:
            check(self._raw)
            if _unacknowledged(self._raw):
                raise
        if ended:
            raise ConnectionAbortedError(errno.ECONNABORTED, os.strerror(errno.ECONNABORTED))

    def last_word(self) -> None:
        """Raise the alert that the other side sent before it hung up, if there is one.

        Raises:
            ssl.SSLError: it says why.
        """
        with suppress(ConnectionError, TimeoutError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
            while self._until_done(lambda: self._tls.read(1)):
                pass

    def _until_done(self, step: Callable[[], _T]) -> _T:
        """Return what `step` returns, fed with what it wants to read."""
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self._flush()
                chunk = self._raw.recv(_CHUNK)
                if chunk:
                    self._heard.write(chunk)
                else:
                    self._heard.write_eof()
            finally:
                self._flush()

    def _flush(self) -> None:
        if self._said.pending:
            self._raw.sendall(self._said.read())


def check(link: socket.socket) -> None:
    """Raise what the kernel has heard of the other side since, such as a reset."""
    fault = link.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if fault:
        raise OSError(fault, os.strerror(fault))


def _unacknowledged(link: socket.socket) -> int:
    """Return how many octets the other side's TCP has not acknowledged."""
    answer = fcntl.ioctl(link.fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
    return int(struct.unpack("i", answer)[0])
