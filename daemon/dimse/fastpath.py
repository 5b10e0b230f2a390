"""pynetdicom's acceptor without its polling: one thread per association that sleeps in the socket.

Stock pynetdicom 3.0.4 runs two threads per association, each waking every millisecond, reads 4 KiB at a
time and copies each PDU several times. Here the association's own thread reads whole PDUs into one buffer
and hands the data of P-DATA-TF on as a view; all else (negotiation, release, abort) still goes through
pynetdicom's own state machine and ACSE. pynetdicom is pinned, because this replaces three of its internals:

* `AssociationSocket.recv/send`: blocking, whole PDUs, TCP_NODELAY.
* `DULServiceProvider.run_reactor`: no thread; `pump` takes one PDU and acts on it at once.
* `Association.run_reactor`: one loop, for acceptors only.
"""

import contextlib
import logging
import queue
import socket
from collections.abc import Callable
from typing import Protocol

from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import InvalidEventError
from pynetdicom.pdu_primitives import A_ASSOCIATE, UserIdentityNegotiation
from pynetdicom.transport import AddressInformation

from daemon.dimse.pdu import AWAITING_CLOSE, ESTABLISHED, IDLE, P_DATA_TF, PDU_HEADER, PDV_HEADER
from daemon.dimse.sockets import CLOSED, FastSocket
from daemon.domain.admission import Caller
from daemon.domain.identity import Identity
from daemon.errors import OverreadError, RefusedError

LOGGER = logging.getLogger(__name__)

_LARGEST_PDU = 1 << 20
_INVALID_PDU = "Evt19"
_INVALID_PARAMETER = 0x06
_LINGER_SECONDS = 5.0


class Handler(Protocol):
    """What an association does with the data that arrives on it."""

    @property
    def idle(self) -> bool:
        """Tell whether no message is under way."""
        ...

    @property
    def knows_users(self) -> bool:
        """Tell whether users are asked for; without any no request about them is answered."""
        ...

    def admit(self, caller: Caller) -> tuple[int, int, int] | None:
        """Return None to go on, else the result, source and reason of a rejection (PS3.8 9.3.4)."""
        ...

    def opened(self, association: "FastAssociation", caller: Caller) -> None:
        """Hear that the association is established."""
        ...

    def take(self, context_id: int, control: int, data: memoryview) -> bytes | None:
        """Take one presentation data value; return the encoded command set to answer with, if any.

        Args:
            context_id: the presentation context.
            control: message control header (PS3.8 E.2): bit 0 command, bit 1 last fragment.
            data: the fragment; valid only until the return.

        Raises:
            RefusedError: the peer broke the protocol; the association is aborted.
        """
        ...

    def rested(self) -> None:
        """Hear that an answer went out; what comes next may be made ready."""
        ...

    def closed(self) -> None:
        """Hear that the association is over, however it ended; called once, always."""
        ...


class FastDul(DULServiceProvider):
    """The upper layer without a thread: what is sent is acted on at once, what comes when `pump` is called."""

    def __init__(self, association: "FastAssociation", max_pdu: int) -> None:
        super().__init__(association)
        self._header = memoryview(bytearray(PDU_HEADER.size))
        self._body = memoryview(bytearray(max_pdu))

    @property
    def open(self) -> bool:
        """Tell whether messages may still come."""
        return not self._kill_thread and self.state_machine.current_state not in {IDLE, AWAITING_CLOSE}

    def start(self) -> None:
        """Run no thread."""
        self.assoc._dul_ready.set()  # noqa: SLF001 - what pynetdicom's own reactor does first

    def is_alive(self) -> bool:
        """Return False: there is no thread to wait for."""
        return False

    def send_pdu(self, primitive: object) -> None:
        """Send a primitive now."""
        super().send_pdu(primitive)
        self._settle()

    def receive_pdu(self, wait: bool = False, timeout: float | None = None) -> object:  # noqa: FBT001, FBT002
        """Return the next primitive, reading from the peer for up to `timeout` seconds if `wait`; else None."""
        self._settle()
        while wait and self.to_user_queue.empty() and not self._kill_thread:
            try:
                self.pump(timeout or _LINGER_SECONDS)
            except TimeoutError:
                return None
        return super().receive_pdu(wait=False)

    def pump(self, seconds: float) -> None:
        """Take one PDU from the peer and act on it.

        Raises:
            TimeoutError: nothing came for `seconds`.
            RefusedError: the peer broke the protocol.
        """
        self.socket.set_timeout(seconds)
        if not self.socket.fill(self._header):
            self.event_queue.put(CLOSED)
        else:
            kind, length = PDU_HEADER.unpack(self._header)
            self._receive(kind, length)
        self._settle()

    def _receive(self, kind: int, length: int) -> None:
        if length > _LARGEST_PDU:
            self.event_queue.put(_INVALID_PDU)
            return
        if length > len(self._body):
            self._body = memoryview(bytearray(length))
        body = self._body[:length]
        if not self.socket.fill(body):
            self.event_queue.put(CLOSED)
        elif kind == P_DATA_TF and self.state_machine.current_state == ESTABLISHED:
            self.assoc.take(body)
        else:
            self._decode(bytes(self._header) + bytes(body))

    def _decode(self, encoded: bytes) -> None:
        try:
            pdu, event = self._decode_pdu(bytearray(encoded))
        except Exception:  # noqa: BLE001 - whatever pynetdicom trips over, the PDU is the peer's fault
            self.event_queue.put(_INVALID_PDU)
            return
        self._recv_pdu.put(pdu)
        self.event_queue.put(event)

    def _settle(self) -> None:
        while not self._kill_thread and (self._process_recv_primitive() or not self.event_queue.empty()):
            try:
                self.state_machine.do_action(self.event_queue.get_nowait())
            except ValueError:  # pynetdicom looks at what a request says only here
                self.event_queue.put(_INVALID_PDU)
            except (InvalidEventError, queue.Empty):
                self.kill_dul()


class FastAssociation(Association):
    """An acceptor's association on one thread."""

    def __init__(
        self,
        entity: ApplicationEntity,
        connection: socket.socket,
        handler: Handler,
        idle_seconds: float,
        link: Callable[[Association, socket.socket], FastSocket] = FastSocket,
    ) -> None:
        super().__init__(entity, "acceptor")
        self.dul = FastDul(self, entity.maximum_pdu_size)
        self.acse_timeout = entity.acse_timeout
        self.network_timeout = entity.network_timeout
        self.set_socket(link(self, connection))
        self._handler = handler
        self._idle_seconds = idle_seconds
        self._stopping = False
        self.acceptor.maximum_length = entity.maximum_pdu_size
        self.acceptor.ae_title = entity.ae_title
        self.acceptor.implementation_class_uid = entity.implementation_class_uid
        self.acceptor.implementation_version_name = entity.implementation_version_name
        self.acceptor.supported_contexts = entity.supported_contexts
        self.acceptor.address_info = AddressInformation.from_tuple(connection.getsockname())
        self.requestor.address_info = AddressInformation.from_tuple(connection.getpeername())
        self.name = f"association-{self.requestor.address_info.port}"

    def _bind_defaults(self) -> None:
        """Bind the handlers that negotiation asks, and none of those that log each PDU."""
        for event in evt._INTERVENTION_EVENTS:  # noqa: SLF001 - as pynetdicom's own method does
            self.bind(event, evt.get_default_handler(event))

    def cut(self) -> None:
        """Abort the association soon, from another thread."""
        self._stopping = True
        self.dul.socket.wake()

    def run_reactor(self) -> None:
        """Negotiate, serve and close one association."""
        try:
            self.dul.socket.limit(self.acse_timeout)
            if self.dul.socket.secure(self.acse_timeout) and not self._stopping and self._negotiate():
                self._serve()
        except OverreadError as error:
            LOGGER.warning("association from %s aborted: %s", self.requestor.address_info.address, error)
        except Exception:
            LOGGER.exception("association aborted by an unexpected fault")
        finally:
            self.is_established = False
            self._handler.closed()
            self._hang_up()

    def take(self, body: memoryview) -> None:
        """Hand each presentation data value of a P-DATA-TF body (PS3.8 9.3.5) on, and send the answers.

        Raises:
            RefusedError: a length does not fit, or the handler says that the protocol was broken.
        """
        offset = 0
        while offset < len(body):
            if offset + PDV_HEADER.size > len(body):
                raise RefusedError("P-DATA-TF: truncated inside a presentation data value header")
            length, context_id, control = PDV_HEADER.unpack_from(body, offset)
            end = offset + 4 + length
            if length < 2 or end > len(body):  # noqa: PLR2004 - context ID and control header
                raise RefusedError("P-DATA-TF: the length of a presentation data value does not fit the PDU")
            answer = self._handler.take(context_id, control, body[offset + PDV_HEADER.size : end])
            if answer is not None:
                self._answer(context_id, answer)
                self._handler.rested()
            offset = end

    def _answer(self, context_id: int, command_set: bytes) -> None:
        value = PDV_HEADER.pack(len(command_set) + 2, context_id, 0x03) + command_set
        self.dul.socket.send(PDU_HEADER.pack(P_DATA_TF, len(value)) + value)

    def _negotiate(self) -> bool:
        request = self.dul.receive_pdu(wait=True, timeout=self.acse_timeout)
        if not isinstance(request, A_ASSOCIATE):
            return False
        self.requestor.primitive = request
        caller = Caller(
            calling_ae=request.calling_ae_title.strip(),
            called_ae=request.called_ae_title.strip(),
            address=self.requestor.address_info.address,
            certificate=self.dul.socket.certificate,
            identity=self._identity(),
        )
        rejection = self._handler.admit(caller)
        if rejection is not None:
            self.acse.send_reject(*rejection)
            return False
        self._confirm_identity()
        self.acse.negotiate_association()
        if self.is_established:
            self._handler.opened(self, caller)
        return bool(self.is_established)

    def _identity(self) -> Identity | None:
        """Return the user that the request names (PS3.7 D.3.3.7.1)."""
        item = self.requestor.user_identity
        if item is None:
            return None
        username = (item.primary_field or b"").decode("utf-8", "replace")
        return Identity(kind=item.user_identity_type or 0, username=username, passcode=item.secondary_field or b"")

    def _confirm_identity(self) -> None:
        """Answer that the user was accepted, where that is asked for; pynetdicom does so for tickets alone."""
        item = self.requestor.user_identity
        if item is not None and item.positive_response_requested and self._handler.knows_users:
            answer = UserIdentityNegotiation()
            answer.server_response = b""  # empty for a username and passcode, PS3.7 D.3.3.7.2
            self.acceptor.add_negotiation_item(answer)

    def _serve(self) -> None:
        self.dul.socket.limit(None)
        try:
            while self.dul.open and not self._stopping:
                self.dul.pump(self._idle_seconds if self._handler.idle else self.network_timeout)
                if self.acse.is_release_requested():
                    self.acse.send_release(is_response=True)
        except TimeoutError:
            self.acse.send_abort(0x00)
        except RefusedError:
            self.acse.send_ap_abort(_INVALID_PARAMETER)
            raise
        except Exception:
            self.acse.send_abort(0x02)
            raise
        if self._stopping and self.dul.open:
            self.acse.send_abort(0x00)

    def _hang_up(self) -> None:
        """Close, after the peer where that is possible: closing first may destroy what it has not read."""
        link = self.dul.socket
        if link.socket is None:
            return
        with contextlib.suppress(OSError, TimeoutError):
            link.set_timeout(_LINGER_SECONDS)
            link.finish()
            link.limit(_LINGER_SECONDS)
            scrap = memoryview(bytearray(4096))
            while not self._stopping and link.fill(scrap):
                pass
        with contextlib.suppress(OSError):
            link.socket.close()
