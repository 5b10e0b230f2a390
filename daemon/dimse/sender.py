"""C-STORE SCU: result objects to one destination on one association."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import split_dataset
from pynetdicom.presentation import PresentationContext

from daemon.dimse.contexts import UNCOMPRESSED, requested_contexts
from daemon.dimse.requestor import DEFAULT_LIMITS, Limits, NotOfferedError, association
from daemon.domain.delivery import Destination, SendOutcome, SendResult
from daemon.domain.statuses import judge
from daemon.errors import RefusedError, RetryableError

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Sendable:
    """A Part 10 file: what its meta says, and where its data set starts, in bytes."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    offset: int


def send(
    destination: Destination, paths: Sequence[Path], calling_ae: str, limits: Limits = DEFAULT_LIMITS
) -> Iterator[SendResult]:
    """Send Part 10 files on one association; yield one result for each path, in order, as each is answered.

    A file goes out byte by byte in its own transfer syntax; only where the peer accepts no more than another
    uncompressed little endian one is it rewritten. What fails on the way is a result, not an exception: an
    association that cannot be had or breaks gives RETRY for all that is left, and says whose turn never came.

    Raises:
        RefusedError: a path is no Part 10 file; nothing was sent.
    """
    sendables = [_describe(path) for path in paths]
    if not sendables:
        return
    contexts = requested_contexts((one.sop_class_uid, one.transfer_syntax_uid) for one in sendables)
    done, reached = 0, False
    try:
        with association(destination, calling_ae, contexts, limits) as established:
            reached = True
            for sendable in sendables:
                yield _send_one(established, sendable, message_id=done % 65535 + 1)
                done += 1
    except NotOfferedError as error:
        for sendable in sendables:
            yield _result(sendable, SendOutcome.REFUSED, None, _unsupported(sendable, str(error)))
    except RetryableError as error:
        LOGGER.warning("delivery to %s interrupted: %s", destination.name, error)
        for number, sendable in enumerate(sendables[done:]):
            result = _result(sendable, SendOutcome.RETRY, None, str(error))
            yield replace(result, tried=reached and number == 0)


def _describe(path: Path) -> _Sendable:
    try:
        meta, offset = split_dataset(path)
        return _Sendable(
            path=path,
            sop_class_uid=str(meta.MediaStorageSOPClassUID),
            sop_instance_uid=str(meta.MediaStorageSOPInstanceUID),
            transfer_syntax_uid=str(meta.TransferSyntaxUID),
            offset=offset,
        )
    except (OSError, AttributeError, InvalidDicomError, EOFError, ValueError) as error:
        raise RefusedError(f"{path.name}: not a DICOM Part 10 file ({error}); nothing was sent") from error


def _send_one(established: Association, sendable: _Sendable, message_id: int) -> SendResult:
    context = _context(established, sendable)
    if context is None:
        return _result(sendable, SendOutcome.REFUSED, None, _unsupported(sendable, "it was not accepted"))
    if context.transfer_syntax[0] == sendable.transfer_syntax_uid:
        status, comment = _stream(established, sendable, context.context_id, message_id)
    else:
        answer = established.send_c_store(dcmread(sendable.path), msg_id=message_id)
        status, comment = answer.get("Status"), str(answer.get("ErrorComment", ""))
    if status is None:
        raise RetryableError("the association broke off, or no answer came in time")
    judgement = judge(int(status), comment)
    LOGGER.info("sent %s: status 0x%04X", sendable.sop_instance_uid, status)
    return _result(sendable, judgement.outcome, int(status), judgement.detail)


def _unsupported(sendable: _Sendable, cause: str) -> str:
    name, syntax = UID(sendable.sop_class_uid).name, UID(sendable.transfer_syntax_uid).name
    return f"the destination refuses {name} in {syntax}: {cause}"


def _context(established: Association, sendable: _Sendable) -> PresentationContext | None:
    """Return the accepted context to send by: the file's own syntax, else one it can be rewritten in."""
    accepted = {
        context.transfer_syntax[0]: context
        for context in established.accepted_contexts
        if context.abstract_syntax == sendable.sop_class_uid
    }
    own = UID(sendable.transfer_syntax_uid)
    if own in accepted:
        return accepted[own]
    if own in UNCOMPRESSED and own.is_little_endian:
        return next((accepted[uid] for uid in UNCOMPRESSED[:2] if uid in accepted), None)
    return None


def _stream(established: Association, sendable: _Sendable, context_id: int, message_id: int) -> tuple[int | None, str]:
    """Send a file's data set as it lies, never whole in memory; return status and comment, None for no answer.

    `Association.send_c_store` does this only behind a process-wide switch of pynetdicom, so its steps are
    taken here: pause the reactor, send the message, wait for the answer (pynetdicom 3.0.4).
    """
    request = C_STORE()
    request.MessageID = message_id
    request.Priority = 0
    request.AffectedSOPClassUID = sendable.sop_class_uid
    request.AffectedSOPInstanceUID = sendable.sop_instance_uid
    request._dataset_path = (sendable.path, sendable.offset)  # noqa: SLF001 - as its docstring says
    established._reactor_checkpoint.clear()  # noqa: SLF001
    while not established._is_paused and established.is_established:  # noqa: SLF001
        time.sleep(0.0001)  # the reactor looks at the checkpoint every millisecond
    established.dimse.send_msg(request, context_id)
    _, response = established.dimse.get_msg(block=True)
    established._reactor_checkpoint.set()  # noqa: SLF001
    if response is None or response.Status is None:
        return None, ""
    return int(response.Status), str(response.ErrorComment or "")


def _result(sendable: _Sendable, outcome: SendOutcome, status: int | None, detail: str) -> SendResult:
    return SendResult(sop_instance_uid=sendable.sop_instance_uid, outcome=outcome, status=status, detail=detail)
