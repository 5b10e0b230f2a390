"""One association's messages: PDV fragments in, bytes to the reception, command responses out."""

import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from daemon.dimse.command import Command, CommandField, respond
from daemon.dimse.contexts import INSTANCE_AVAILABILITY, STORAGE_COMMITMENT
from daemon.dimse.notices import MissingAttributeError, decode_notice
from daemon.dimse.ports import CommitmentHandler, NoticeHandler, Reception
from daemon.dimse.reports import MOST_BYTES, decode_report
from daemon.dimse.statuses import (
    CANNOT_UNDERSTAND,
    INVALID_ATTRIBUTE_VALUE,
    MISSING_ATTRIBUTE,
    PROCESSING_FAILURE,
    SOP_CLASS_NOT_SUPPORTED,
    SUCCESS,
    UNRECOGNISED_OPERATION,
    Status,
)
from daemon.dimse.storing import Refuse, Sink, store
from daemon.domain.reception import Announced
from daemon.errors import RefusedError

LOGGER = logging.getLogger(__name__)

_COMMAND, _LAST = 0x01, 0x02
_MOST_COMMAND_BYTES = 1 << 16
_REPORT = (CommandField.N_EVENT_REPORT, STORAGE_COMMITMENT)
_NOTICE = (CommandField.N_CREATE, INSTANCE_AVAILABILITY)


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


class _Collect:
    """Collects a data set that is no object, such as a Storage Commitment report, and hands it on."""

    def __init__(self, what: str, take: Callable[[bytes], None], refusal: Callable[[RefusedError], int]) -> None:
        self._what = what
        self._take = take
        self._refusal = refusal
        self._encoded = bytearray()

    def write(self, data: bytes | memoryview) -> None:
        if len(self._encoded) + len(data) > MOST_BYTES:
            raise RefusedError(f"{self._what}: longer than {MOST_BYTES} bytes")
        self._encoded += data

    def finish(self) -> Status:
        try:
            self._take(bytes(self._encoded))
        except RefusedError as error:
            LOGGER.warning("refused a %s: %s", self._what, error)
            return Status(code=self._refusal(error), comment=str(error))
        except Exception:
            LOGGER.exception("a %s could not be recorded; the peer is told to repeat it", self._what)
            return Status(code=PROCESSING_FAILURE, comment="Could not be recorded; report it again")
        return Status(code=SUCCESS)

    def abort(self) -> None:
        """Nothing was kept."""


@dataclass(frozen=True, kw_only=True)
class Ears:
    """Who hears what is neither object nor echo; nobody hears what stands None."""

    commitments: CommitmentHandler | None = None
    notices: NoticeHandler | None = None


SILENCE = Ears()


class Conversation:
    """Serves C-ECHO, C-STORE, N-EVENT-REPORT and N-CREATE on one association; used from its thread only."""

    def __init__(
        self, parties: Parties, contexts: Mapping[int, Accepted], reception: Reception, ears: Ears = SILENCE
    ) -> None:
        self._parties = parties
        self._contexts = contexts
        self._reception = reception
        self._ears = ears
        self._encoded = bytearray()
        self._command: Command | None = None
        self._sink: Sink | None = None
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

    def _finish(self, command: Command, sink: Sink) -> bytes:
        self._sink = None
        status = sink.finish()
        self._reset()
        return respond(self._named(command), status)

    def _named(self, command: Command) -> Command:
        """Return the command; an N-CREATE that leaves the SOP Instance UID to us gets one (PS3.7 10.1.5.1.4)."""
        if command.field != CommandField.N_CREATE or command.sop_instance_uid:
            return command
        return replace(command, sop_instance_uid=f"2.25.{uuid.uuid4().int}")

    def _reset(self) -> None:
        self._encoded.clear()
        self._command = None
        self._sink = None

    def _sink_for(self, command: Command, context: Accepted) -> Sink:
        if command.sop_class_uid != context.sop_class_uid:
            return Refuse(Status(code=SOP_CLASS_NOT_SUPPORTED, comment="Not the negotiated SOP class"))
        if command.field == CommandField.C_ECHO:
            return Refuse(Status(code=SUCCESS))
        if command.field == CommandField.C_STORE and command.has_data_set:
            announced = Announced(
                sop_class_uid=command.sop_class_uid,
                sop_instance_uid=command.sop_instance_uid,
                transfer_syntax_uid=context.transfer_syntax_uid,
                calling_ae=self._parties.calling_ae,
                called_ae=self._parties.called_ae,
                association=self._parties.association,
            )
            return store(self._reception, announced)
        if command.has_data_set and (hearing := self._hearing(command, context)):
            return hearing
        return Refuse(Status(code=UNRECOGNISED_OPERATION, comment="Not served here"))

    def _hearing(self, command: Command, context: Accepted) -> Sink | None:
        asked, syntax = (command.field, context.sop_class_uid), context.transfer_syntax_uid
        commitments, notices = self._ears.commitments, self._ears.notices
        if commitments is not None and asked == _REPORT:

            def report(encoded: bytes) -> None:
                told = decode_report(encoded, syntax)
                commitments.on_commitment(told.transaction_uid, told.committed, told.failed)

            return _Collect("storage commitment report", report, lambda _: CANNOT_UNDERSTAND)
        if notices is not None and asked == _NOTICE:
            return _Collect("notification", lambda encoded: notices.on_notice(decode_notice(encoded, syntax)), _unfit)
        return None


def _unfit(error: RefusedError) -> int:
    """Return the status for a notification that cannot be taken (PS3.7 10.1.5.1.6)."""
    return MISSING_ATTRIBUTE if isinstance(error, MissingAttributeError) else INVALID_ATTRIBUTE_VALUE
