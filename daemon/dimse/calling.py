"""Associations to store on, of one thread: asked for, used as a `Wire`, and released.

pynetdicom 3.0.4 needs two threads and several milliseconds for one, more than it takes to send a study's results on it.
What it takes to query and to be asked in turn goes by `daemon.dimse.requestor`.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic

from pynetdicom import pdu
from pynetdicom.transport import AddressInformation

from daemon.dimse.negotiation import Acceptance, Proposed, proposal
from daemon.dimse.pdu import A_ABORT, A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_RELEASE_RP, A_RELEASE_RQ, PDU_HEADER
from daemon.dimse.requestor import DEFAULT_LIMITS, Limits, addressing, not_offered, unreachable
from daemon.dimse.tls import Client
from daemon.dimse.wire import LEAST_PDU, Wire
from daemon.domain.delivery import Destination
from daemon.errors import RefusedError, RetryableError, UnreachableError

# What is no association yet may say so much; 128 presentation contexts need a few thousand bytes.
_MOST_PDU = 1 << 17
_RELEASE = PDU_HEADER.pack(A_RELEASE_RQ, 4) + bytes(4)
_RELEASED = PDU_HEADER.pack(A_RELEASE_RP, 4) + bytes(4)
_REJECTION_BYTES = 4
# By the service user, PS3.8 9.3.8.
_ABORT = PDU_HEADER.pack(A_ABORT, 4) + bytes(4)
_LEAST_SECONDS = 0.001


@contextmanager
def calling(
    destination: Destination, calling_ae: str, proposed: Proposed, limits: Limits = DEFAULT_LIMITS
) -> Iterator[tuple[Wire, Acceptance]]:
    """Yield the connection of an association and what the peer accepts; release it at the end, abort it on an error.

    Raises:
        UnreachableError: it cannot be reached, or rejects the association.
        NotOfferedError: it accepts nothing of what was `proposed`.
        RetryableError: it takes no PDU in which anything fits.
    """
    call = _Call(destination, calling_ae, limits)
    with call.connected() as connection:
        answer = call.asked(connection, proposed)
        try:
            acceptance = call.accepted(answer, proposed)
            yield Wire(connection, acceptance.longest, limits.answer_seconds), acceptance
        except BaseException:
            _abort(connection)
            raise
        _release(connection, limits.association_seconds)


class _Call:
    """What leads to an association with `destination`, or to the reason why there is none."""

    def __init__(self, destination: Destination, calling_ae: str, limits: Limits) -> None:
        self._destination = destination
        self._calling_ae = calling_ae
        self._limits = limits
        self._tls: Client | None = None

    def connected(self) -> socket.socket:
        """Return a connection, made safe where that is to be."""
        with addressing(self._destination):
            self._tls = Client(self._destination.tls) if self._destination.tls else None
            address = AddressInformation.from_addr_port(self._destination.host, self._destination.port)
        connection = socket.socket(address.address_family, socket.SOCK_STREAM)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                connection = self._tls.wrap_socket(
                    connection, server_side=False, server_hostname=self._destination.host
                )
            connection.settimeout(self._limits.connect_seconds)
            connection.connect(address.as_tuple)
        except OSError as error:
            connection.close()
            raise self._unreachable() from error
        return connection

    def asked(self, connection: socket.socket, proposed: Proposed) -> bytes:
        """Return what the peer says to a proposal: the A-ASSOCIATE-AC without its first six bytes."""
        request = proposal(self._destination.ae_title, self._calling_ae, proposed, self._limits.max_pdu)
        deadline = monotonic() + self._limits.association_seconds
        try:
            connection.settimeout(self._limits.association_seconds)
            with suppress(OSError):  # it may have hung up, and said why
                connection.sendall(request)
            kind, body = _pdu(connection, deadline)
        except OSError as error:
            raise self._unreachable() from error
        if kind == A_ASSOCIATE_RJ and len(body) == _REJECTION_BYTES:
            rejection = pdu.A_ASSOCIATE_RJ()
            rejection.decode(PDU_HEADER.pack(kind, len(body)) + body)
            raise self._unreachable(rejection)
        if kind != A_ASSOCIATE_AC:
            raise self._unreachable()
        return body

    def accepted(self, answer: bytes, proposed: Proposed) -> Acceptance:
        """Return what the peer accepts."""
        try:
            acceptance = Acceptance.parse(answer, proposed)
        except RefusedError as error:
            raise self._unreachable() from error
        if not acceptance.contexts:
            raise not_offered(self._destination)
        if 0 < acceptance.longest < LEAST_PDU:
            raise RetryableError(
                f"the destination takes PDUs of {acceptance.longest} bytes at most, in which nothing fits; mend it "
                "there"
            )
        return acceptance

    def _unreachable(self, *rejections: pdu.A_ASSOCIATE_RJ) -> UnreachableError:
        return unreachable(self._destination, self._calling_ae, rejections, self._tls)


def _pdu(connection: socket.socket, deadline: float) -> tuple[int, bytes]:
    """Return the type and the rest of the next PDU.

    Raises:
        OSError: none came in time, or what came is too long.
    """
    kind, length = PDU_HEADER.unpack(_read(connection, PDU_HEADER.size, deadline))
    if length > _MOST_PDU:
        raise ConnectionError("no PDU of an association")
    return kind, _read(connection, length, deadline)


def _read(connection: socket.socket, count: int, deadline: float) -> bytes:
    taken = b""
    while len(taken) < count:
        connection.settimeout(max(deadline - monotonic(), _LEAST_SECONDS))
        got = connection.recv(count - len(taken))
        if not got:
            raise ConnectionError("the peer hung up")
        taken += got
    return taken


def _release(connection: socket.socket, seconds: float) -> None:
    """Say that nothing more is wanted, and wait for the peer's word (PS3.8 7.2); without it this ends all the same."""
    deadline = monotonic() + seconds
    try:
        connection.settimeout(seconds)
        connection.sendall(_RELEASE)
        kind = A_RELEASE_RQ
        while kind not in {A_RELEASE_RP, A_ABORT}:
            kind, _ = _pdu(connection, deadline)
            if kind == A_RELEASE_RQ:
                connection.sendall(_RELEASED)
    except OSError:
        _abort(connection)


def _abort(connection: socket.socket) -> None:
    """Tell the peer, if it listens, that this is over."""
    with suppress(OSError):
        connection.settimeout(0)
        connection.sendall(_ABORT)
