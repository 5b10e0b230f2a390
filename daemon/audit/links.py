"""The network toward an Audit Record Repository: syslog over TLS (RFC 5425) and over UDP (RFC 5426)."""

import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from daemon.audit.channel import Channel, check
from daemon.audit.syslog import frame
from daemon.domain.repository import Repository
from daemon.errors import RetryableError

_MOST_DATAGRAM = 65_507  # octets, over IPv4


class Link(Protocol):
    """A way to the repository."""

    @property
    def most(self) -> int:
        """How many messages go at once."""
        ...

    def send(self, messages: Sequence[bytes]) -> None:
        """Hand over messages, in order; on return the repository has them, as far as the transport can tell.

        Raises:
            RetryableError: it may not have all of them.
        """
        ...

    def probe(self) -> str:
        """Return in words that the repository is there.

        Raises:
            RetryableError: it is not.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class TlsLink:
    """A connection for each batch, closed in order: syslog has no acknowledgement but the answer to our close_notify.

    `context` reads the files of TLS anew each time, so that renewed ones count; `explain` says in words what failed.
    """

    repository: Repository
    context: Callable[[], ssl.SSLContext]
    explain: Callable[[OSError], str]
    seconds: float = 10.0
    most: int = 100

    def send(self, messages: Sequence[bytes]) -> None:
        """Send a batch and wait until the repository has read it; raises as `Link` says."""
        context = self.context()
        with self._faults_in_words(), self._connected() as raw:
            channel = Channel(raw, context, self.repository.host)
            channel.shake_hands()
            try:
                channel.send(b"".join(map(frame, messages)))
                channel.finish()
            except (ConnectionError, ssl.SSLEOFError) as error:
                channel.last_word()
                said = "it hung up before it had everything; if it always does, it may not accept our certificate"
                raise RetryableError(f"{self.repository}: {said}") from error

    def probe(self) -> str:
        """Connect and close; our certificate is judged too. Raises as `Link` says."""
        self.send(())
        return f"{self.repository} answers"

    @contextmanager
    def _connected(self) -> Iterator[socket.socket]:
        """Yield a connection, made within the time limit, as each wait on it."""
        with socket.create_connection((self.repository.host, self.repository.port), self.seconds) as raw:
            yield raw

    @contextmanager
    def _faults_in_words(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise RetryableError(f"{self.repository}: no answer within {self.seconds:g} s") from error
        except OSError as error:
            said = _said(error) or f"{self.explain(error)}; check audit.repository and the files of tls"
            raise RetryableError(f"{self.repository}: {said}") from error


@dataclass(frozen=True, kw_only=True)
class UdpLink:
    """A datagram for each message; what the network drops is lost, and nobody says so."""

    repository: Repository
    most: int = 20

    def send(self, messages: Sequence[bytes]) -> None:
        """Send a batch; raises where this machine or the other one says that it did not go out."""
        longest = max(map(len, messages), default=0)
        if longest > _MOST_DATAGRAM:
            raise RetryableError(f"{self.repository}: a message of {longest} octets fits no datagram; use tls://")
        try:
            family, address = self._address()
            with socket.socket(family, socket.SOCK_DGRAM) as link:
                link.connect(address)
                for message in messages:
                    link.send(message)
                check(link)
        except OSError as error:
            said = _said(error) or f"{error.strerror or error}; check audit.repository"
            raise RetryableError(f"{self.repository}: {said}") from error

    def probe(self) -> str:
        """Look the host up; more cannot be known. Raises as `Link` says."""
        self.send(())
        return f"{self.repository} is sent to; datagrams are not answered"

    def _address(self) -> tuple[socket.AddressFamily, Any]:
        found = socket.getaddrinfo(self.repository.host, self.repository.port, type=socket.SOCK_DGRAM)
        return found[0][0], found[0][4]


def _said(error: OSError) -> str:
    """Say in words what keeps from the host altogether; "" for what is said by it."""
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there; check audit.repository"
    if isinstance(error, socket.gaierror):
        return "no such host; check audit.repository"
    return ""
