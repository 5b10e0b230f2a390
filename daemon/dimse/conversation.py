"""One association's messages: PDV fragments in, bytes to the reception, command responses out."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from daemon.dimse.command import Command, CommandField, respond
from daemon.dimse.contexts import STORAGE_COMMITMENT
from daemon.dimse.part10 import head
from daemon.dimse.ports import CommitmentHandler, Incoming, Reception
from daemon.dimse.reports import MOST_BYTES, decode_report
from daemon.dimse.statuses import (
    CANNOT_UNDERSTAND,
    INVALID_OBJECT_INSTANCE,
    OUT_OF_RESOURCES,
    PROCESSING_FAILURE,
    SOP_CLASS_NOT_SUPPORTED,
    SUCCESS,
    UNRECOGNISED_OPERATION,
    Status,
    answer,
)
from daemon.domain.reception import Announced
from daemon.errors import OverreadError, RefusedError
from daemon.uids import is_uid

LOGGER = logging.getLogger(__name__)

_COMMAND, _LAST = 0x01, 0x02
_MOST_COMMAND_BYTES = 1 << 16
_REPORT = (CommandField.N_EVENT_REPORT, STORAGE_COMMITMENT)


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """An accepted presentation context."""

    sop_class_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, kw_only=True)
class Parties:
    """Who talks to whom on which association."""

    association: str
    calling_ae: str
    called_ae: str


class _Sink(Protocol):
    def write(self, data: memoryview) -> None: ...
    def finish(self) -> Status: ...
    def abort(self) -> None: ...


class _Refuse:
    """Lets a data set run out and answers with a status that was clear before it came."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def write(self, data: memoryview) -> None:
        """Drop it."""

    def finish(self) -> Status:
        return self._status

    def abort(self) -> None:
        """Nothing was kept."""


class _Store:
    """Streams an object to its Incoming. After a fault the rest of the data set is let run out."""

    def __init__(self, incoming: Incoming, uid: str) -> None:
        self._incoming = incoming
        self._uid = uid
        self._fault: Status | None = None

    def write(self, data: bytes | memoryview) -> None:
        if self._fault is not None:
            return
        try:
            self._incoming.write(data)
        except Exception as error:  # noqa: BLE001 - edge of the loop: one object's fault ends only that object
            self._fault = _fault(error, self._uid)
            self._incoming.abort()

    def finish(self) -> Status:
        if self._fault is not None:
            return self._fault
        try:
            return answer(self._incoming.finish())
        except Exception as error:  # noqa: BLE001 - never success for what is not durable
            return _fault(error, self._uid)

    def abort(self) -> None:
        if self._fault is None:
            self._incoming.abort()


class _Hear:
    """Collects a Storage Commitment report and hands it on."""

    def __init__(self, handler: CommitmentHandler, transfer_syntax_uid: str) -> None:
        self._handler = handler
        self._syntax = transfer_syntax_uid
        self._encoded = bytearray()

    def write(self, data: memoryview) -> None:
        if len(self._encoded) + len(data) > MOST_BYTES:
            raise RefusedError(f"storage commitment report: longer than {MOST_BYTES} bytes")
        self._encoded += data

    def finish(self) -> Status:
        try:
            report = decode_report(bytes(self._encoded), self._syntax)
            self._handler.on_commitment(report.transaction_uid, report.committed, report.failed)
        except RefusedError as error:
            return _fault(error, "")
        except Exception:
            LOGGER.exception("a storage commitment report could not be recorded; the PACS is told to repeat it")
            return Status(code=PROCESSING_FAILURE, comment="Could not be recorded; report it again")
        return Status(code=SUCCESS)

    def abort(self) -> None:
        """Nothing was kept."""


class Conversation:
    """Serves C-ECHO, C-STORE and N-EVENT-REPORT on one association; used from its thread only."""

    def __init__(
        self,
        parties: Parties,
        contexts: Mapping[int, Accepted],
        reception: Reception,
        commitments: CommitmentHandler | None,
    ) -> None:
        self._parties = parties
        self._contexts = contexts
        self._reception = reception
        self._commitments = commitments
        self._encoded = bytearray()
        self._command: Command | None = None
        self._sink: _Sink | None = None
        self._context_id = 0

    @property
    def idle(self) -> bool:
        """Tell whether no message is under way."""
        return self._command is None and not self._encoded

    def take(self, context_id: int, control: int, data: memoryview) -> bytes | None:
        """Take a fragment; see `daemon.dimse.fastpath.Handler.take`."""
        if control & _COMMAND:
            return self._take_command(context_id, data, last=bool(control & _LAST))
        if self._command is None or self._sink is None or context_id != self._context_id:
            raise RefusedError("P-DATA-TF: a data set fragment without its command set")
        self._sink.write(data)
        return self._finish(self._command, self._sink) if control & _LAST else None

    def abandon(self) -> None:
        """Drop what is under way: the association is over."""
        if self._sink is not None:
            LOGGER.warning("association %s ended inside an object, which is dropped", self._parties.association)
            self._sink.abort()
        self._reset()

    def _take_command(self, context_id: int, data: memoryview, *, last: bool) -> bytes | None:
        if self._command is not None:
            raise RefusedError("P-DATA-TF: a command set inside another message's data set")
        self._encoded += data
        if len(self._encoded) > _MOST_COMMAND_BYTES:
            raise RefusedError("command set: too long")
        if not last:
            return None
        command = Command.parse(bytes(self._encoded))
        context = self._contexts.get(context_id)
        if context is None:
            raise RefusedError("P-DATA-TF: a presentation context that was not accepted")
        if command.field == CommandField.C_CANCEL:
            self._reset()
            return None
        sink = self._sink_for(command, context)
        if not command.has_data_set:
            return self._finish(command, sink)
        self._command, self._sink, self._context_id = command, sink, context_id
        return None

    def _finish(self, command: Command, sink: _Sink) -> bytes:
        self._sink = None
        status = sink.finish()
        self._reset()
        return respond(command, status)

    def _reset(self) -> None:
        self._encoded.clear()
        self._command = None
        self._sink = None

    def _sink_for(self, command: Command, context: Accepted) -> _Sink:
        if command.sop_class_uid != context.sop_class_uid:
            return _Refuse(Status(code=SOP_CLASS_NOT_SUPPORTED, comment="Not the negotiated SOP class"))
        if command.field == CommandField.C_ECHO:
            return _Refuse(Status(code=SUCCESS))
        if command.field == CommandField.C_STORE and command.has_data_set:
            return self._store(command, context)
        if self._commitments is not None and (command.field, context.sop_class_uid) == _REPORT:
            return _Hear(self._commitments, context.transfer_syntax_uid)
        return _Refuse(Status(code=UNRECOGNISED_OPERATION, comment="Not served here"))

    def _store(self, command: Command, context: Accepted) -> _Sink:
        uid = command.sop_instance_uid
        if not is_uid(uid):
            return _Refuse(Status(code=INVALID_OBJECT_INSTANCE, comment="Not a valid SOP Instance UID"))
        announced = Announced(
            sop_class_uid=command.sop_class_uid,
            sop_instance_uid=uid,
            transfer_syntax_uid=context.transfer_syntax_uid,
            calling_ae=self._parties.calling_ae,
            called_ae=self._parties.called_ae,
            association=self._parties.association,
        )
        try:
            store = _Store(self._reception.open(announced), uid)
        except Exception as error:  # noqa: BLE001 - edge of the loop: the sender gets an answer, whatever it is
            return _Refuse(_fault(error, uid))
        store.write(head(command.sop_class_uid, uid, context.transfer_syntax_uid))
        return store


def _fault(error: Exception, uid: str) -> Status:
    """Return the status for an object that could not be taken, and log it by its UID."""
    if isinstance(error, RefusedError):
        LOGGER.warning("refused %s: %s", uid or "a report", error)
        return Status(code=CANNOT_UNDERSTAND, comment=str(error))
    if isinstance(error, OverreadError | OSError):
        LOGGER.warning("cannot keep %s now: %s", uid, error)
        return Status(code=OUT_OF_RESOURCES, comment="Cannot be kept now; send it again later")
    LOGGER.error("unexpected fault while receiving %s", uid, exc_info=error)
    return Status(code=PROCESSING_FAILURE, comment="Unexpected fault; see the log of the receiver")
