"""The listener: Verification and Storage SCP, the ear for Storage Commitment reports and availability notices."""

import logging
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from pynetdicom.ae import ApplicationEntity

from daemon.dimse.contexts import INSTANCE_AVAILABILITY, STORAGE_COMMITMENT, supported_contexts
from daemon.dimse.conversation import Accepted, Conversation, Ears, Parties
from daemon.dimse.fastpath import FastAssociation
from daemon.dimse.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from daemon.dimse.port import opened
from daemon.dimse.ports import CommitmentHandler, NoticeHandler, Reception, Witness
from daemon.dimse.seats import Seats, SharedSeats
from daemon.dimse.sockets import FastSocket
from daemon.dimse.tls import TlsSocket, server_context
from daemon.domain.admission import AllowedCaller, AllowList, Caller, UserList, with_destinations
from daemon.domain.trust import ServerTls

LOGGER = logging.getLogger(__name__)

Rejection = tuple[int, int, int]
# result, source, reason (PS3.8 Table 9-21)
CALLING_AE_NOT_RECOGNISED: Rejection = (1, 1, 3)
CALLED_AE_NOT_RECOGNISED: Rejection = (1, 1, 7)
NO_REASON_GIVEN: Rejection = (1, 1, 1)
TEMPORARY_CONGESTION: Rejection = (2, 3, 1)
LOCAL_LIMIT_EXCEEDED: Rejection = (2, 3, 2)
_UNWELCOME: Mapping[Rejection, str] = {
    CALLING_AE_NOT_RECOGNISED: "association rejected: calling AE title not recognised",
    CALLED_AE_NOT_RECOGNISED: "association rejected: called AE title not recognised",
    NO_REASON_GIVEN: "association rejected: user identity not accepted",
}
_CUT_SECONDS = 10.0
_BREATH_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True)
class ListenerSettings:
    """Where to listen and to whom.

    `callers` are those allowed, besides the AE titles that are `destinations` at the time, and `users` whom they must
    name; with `allow_any_caller` all may call. `port` 0 takes a free one. With `tls` it speaks nothing else.
    `idle_seconds` is how long an association may rest between messages, `network_seconds` how long inside one,
    `association_seconds` how long a connection may take to ask for an association, `stop_seconds` how long those under
    way may take to end. While `paused` says so every association is rejected for now. `max_per_peer` counts the
    associations of one calling AE title at one address. Where several processes share the port, both limits hold for
    all of them, by the folder `together`.
    """

    ae_title: str
    host: str = "127.0.0.1"
    port: int = 11112
    callers: frozenset[AllowedCaller] = frozenset()
    destinations: Callable[[], Iterable[str]] = tuple
    allow_any_caller: bool = False
    any_called_ae: bool = False
    tls: ServerTls | None = None
    users: UserList = field(default_factory=UserList)
    paused: Callable[[], bool] = bool
    max_associations: int = 32
    max_per_peer: int = sys.maxsize
    together: Path | None = None
    max_pdu: int = 131072
    association_seconds: float = 30.0
    network_seconds: float = 60.0
    idle_seconds: float = 600.0
    stop_seconds: float = 10.0
    again_seconds: float = 5.0


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """An association that is not accepted: what the peer is told, and why in a sentence for the log."""

    rejection: Rejection
    why: str


class _Guest:
    """One association from connection to close: admission, then a conversation."""

    def __init__(self, listener: "Listener") -> None:
        self._listener = listener
        self._parties: Parties | None = None
        self._conversation: Conversation | None = None

    @property
    def idle(self) -> bool:
        return self._conversation is None or self._conversation.idle

    @property
    def knows_users(self) -> bool:
        return bool(self._listener.users.users)

    def admit(self, caller: Caller) -> Rejection | None:
        refusal = self._listener.admit(self, caller)
        if refusal is None:
            return None
        LOGGER.warning(
            "association from AE %r at %s to AE %r rejected: %s",
            caller.calling_ae,
            caller.address,
            caller.called_ae,
            refusal.why,
        )
        self._listener.turned_away(caller, refusal.rejection)
        return refusal.rejection

    def opened(self, association: FastAssociation, caller: Caller) -> None:
        self._parties = Parties(association=uuid.uuid4().hex, calling_ae=caller.calling_ae, called_ae=caller.called_ae)
        contexts: Mapping[int, Accepted] = {
            context.context_id: Accepted(
                sop_class_uid=str(context.abstract_syntax), transfer_syntax_uid=str(context.transfer_syntax[0])
            )
            for context in association.accepted_contexts
        }
        self._listener.let_in(self._parties.association, caller)
        self._conversation = self._listener.converse(self._parties, contexts)

    def take(self, context_id: int, control: int, data: memoryview) -> bytes | None:
        if self._conversation is None:
            return None
        return self._conversation.take(context_id, control, data)

    def rested(self) -> None:
        self._listener.rested()

    def closed(self) -> None:
        try:
            if self._conversation is not None:
                self._conversation.abandon()
        except Exception:
            # A half object that the disk does not let go: the place and the association are given back all the same.
            LOGGER.exception("what came by halves could not be dropped")
        finally:
            self._listener.part(self, self._parties)


class Listener:
    """Listens on one address; each association has a thread of its own.

    What a C-STORE answers is decided by the reception alone; here bytes are only passed on, never decoded.
    """

    def __init__(
        self,
        settings: ListenerSettings,
        reception: Reception,
        commitments: CommitmentHandler | None = None,
        witness: Witness | None = None,
        notices: NoticeHandler | None = None,
    ) -> None:
        self._settings = settings
        self._witness = witness
        self._reception = reception
        self._ears = Ears(commitments=commitments, notices=notices)
        self._link = FastSocket if settings.tls is None else partial(TlsSocket, tls=settings.tls)
        self._entity = self._application_entity()
        self._lock = threading.Lock()
        self._associations: set[FastAssociation] = set()
        limits = (settings.max_associations, settings.max_per_peer)
        self._seats = SharedSeats(*limits, settings.together) if settings.together else Seats(*limits)
        self._server: socket.socket | None = None
        self._stopping = threading.Event()
        self._acceptor: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    @property
    def port(self) -> int:
        """The port listened on; the real one where the settings said 0."""
        if self._server is None:
            return self._settings.port
        port: int = self._server.getsockname()[1]
        return port

    @property
    def users(self) -> UserList:
        """Whom callers must name."""
        return self._settings.users

    def start(self) -> None:
        """Bind and accept associations from now on.

        Raises:
            FatalError: the address cannot be bound, or a file of TLS cannot be used.
        """
        if self._settings.tls is not None:
            server_context(self._settings.tls)
        host, shared = self._settings.host, self._settings.together is not None
        self._server = opened(host, self._settings.port, shared=shared)
        self._stopping.clear()
        self._acceptor = threading.Thread(target=self._accept, args=(self._server,), name="listener", daemon=True)
        self._acceptor.start()
        how = "TLS" if self._settings.tls else "plain text"
        LOGGER.info("listening as AE %s on %s:%d, %s", self._settings.ae_title, host, self.port, how)

    def stop(self, seconds: float | None = None) -> None:
        """Accept no more, give running associations `seconds` to finish (else those set), then abort them."""
        if self._server is None or self._acceptor is None:
            return
        self._stopping.set()
        self._server.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._server.close()
        self._server = None
        self._join(self._settings.stop_seconds if seconds is None else seconds)
        for association in self._running():
            association.cut()
        self._join(_CUT_SECONDS)
        LOGGER.info("listener stopped, %d associations left over", len(self._running()))

    def admit(self, guest: _Guest, caller: Caller) -> Refusal | None:
        """Return why an association is rejected, or None; `guest` may have a place from then on, until it parts."""
        settings = self._settings
        if not settings.any_called_ae and caller.called_ae != settings.ae_title:
            return Refusal(rejection=CALLED_AE_NOT_RECOGNISED, why=f"we are called {settings.ae_title}")
        denial = self._allowed().denial(caller)
        if denial is not None:
            return Refusal(rejection=CALLING_AE_NOT_RECOGNISED, why=denial.value)
        if settings.paused():
            return Refusal(rejection=TEMPORARY_CONGESTION, why="reception is paused; `overread resume` ends that")
        limit = self._seats.take(guest, (caller.calling_ae, caller.address))
        if limit:
            return Refusal(rejection=LOCAL_LIMIT_EXCEEDED, why=limit)
        with self._seats.guess():
            denial = settings.users.denial(caller)
        return Refusal(rejection=NO_REASON_GIVEN, why=denial.value) if denial else None

    def _allowed(self) -> AllowList:
        """Return who may call now."""
        settings = self._settings
        if settings.allow_any_caller:
            callers = settings.callers
        else:
            callers = with_destinations(settings.callers, settings.destinations())
        proofs = settings.tls.proofs if settings.tls else ()
        return AllowList(callers=callers, any_caller=settings.allow_any_caller, proofs=proofs)

    def turned_away(self, caller: Caller, rejection: Rejection) -> None:
        """Tell the witness of a caller that is not welcome; a full house says nothing of its callers."""
        if self._witness is not None and rejection in _UNWELCOME:
            self._witness.association_rejected(caller, _UNWELCOME[rejection])

    def let_in(self, association: str, caller: Caller) -> None:
        """Tell the witness of a caller that got in."""
        if self._witness is not None:
            self._witness.association_accepted(association, caller)

    def converse(self, parties: Parties, contexts: Mapping[int, Accepted]) -> Conversation:
        """Announce an association to the reception and return what serves it."""
        LOGGER.info("association %s opened by AE %s", parties.association, parties.calling_ae)
        self._reception.association_opened(parties.association, parties.calling_ae)
        return Conversation(parties, contexts, self._reception, self._ears)

    def rested(self) -> None:
        """Tell the reception that an answer went out."""
        self._reception.rested()

    def part(self, guest: _Guest, parties: Parties | None) -> None:
        """Take the place back and, of an association that was opened, tell the reception that it is over."""
        self._seats.leave(guest)
        if parties is None:
            return
        LOGGER.info("association %s closed", parties.association)
        self._close(parties.association)

    def _close(self, association: str) -> None:
        """Tell the reception that an association is over, until it has heard: its studies wait for that.

        Where we stop first, the next start closes all that stand open.
        """
        while True:
            try:
                self._reception.association_closed(association)
            except Exception:
                LOGGER.exception("the end of association %s could not be noted; tried again", association)
                if not self._stopping.wait(self._settings.again_seconds):
                    continue
            return

    def _application_entity(self) -> ApplicationEntity:
        settings = self._settings
        entity = ApplicationEntity(ae_title=settings.ae_title)
        entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        entity.maximum_pdu_size = settings.max_pdu
        # counted here, by open associations: pynetdicom would count those that only wait to be closed too
        entity.maximum_associations = 1 << 16
        entity.acse_timeout = settings.association_seconds
        entity.network_timeout = settings.network_seconds
        heard = {STORAGE_COMMITMENT: self._ears.commitments, INSTANCE_AVAILABILITY: self._ears.notices}
        unheard = {uid for uid, handler in heard.items() if handler is None}
        entity.supported_contexts = [c for c in supported_contexts() if c.abstract_syntax not in unheard]
        return entity

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError as error:
                # out of descriptors, or a peer gone before its turn: neither may end the listener
                if self._stopping.wait(_BREATH_SECONDS):
                    return
                LOGGER.warning("a connection could not be accepted: %s", error.strerror)
                continue
            try:
                self._serve(connection)
            except Exception:
                # The edge of the loop: no thread or memory left for this one, perhaps; the next may have some.
                LOGGER.exception("a connection could not be served")
                connection.close()

    def _serve(self, connection: socket.socket) -> None:
        running = self._running()
        if len(running) > 2 * self._settings.max_associations:
            connection.close()
            return
        try:
            idle = self._settings.idle_seconds
            association = FastAssociation(self._entity, connection, _Guest(self), idle, self._link)
        except OSError:  # it is gone already
            connection.close()
            return
        with self._lock:
            self._associations = {*running, association}
        association.start()

    def _running(self) -> list[FastAssociation]:
        with self._lock:
            return [one for one in self._associations if one.is_alive()]

    def _join(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        for association in self._running():
            association.join(max(0.0, deadline - time.monotonic()))
