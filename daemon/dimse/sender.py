"""C-STORE SCU: result objects to one destination on one association."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO, FileIO
from pathlib import Path

from pydicom.errors import InvalidDicomError
from pydicom.tag import Tag
from pydicom.uid import UID
from pynetdicom.dsutils import split_dataset

from daemon.dimse.calling import calling
from daemon.dimse.command import Answer, store_request
from daemon.dimse.contexts import requested
from daemon.dimse.negotiation import Acceptance
from daemon.dimse.recode import bits_allocated, recoded, writable
from daemon.dimse.requestor import DEFAULT_LIMITS, Limits, NotOfferedError
from daemon.dimse.wire import Wire
from daemon.domain.delivery import Destination, SendOutcome, SendResult
from daemon.domain.statuses import judge
from daemon.errors import RefusedError, RetryableError
from daemon.imaging.header import Element, Kind, glance

LOGGER = logging.getLogger(__name__)
_HEAD_BYTES = 1 << 14
_NAMES = ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID")
_WANTED = {
    **{int(Tag(keyword)): Element(keyword=keyword) for keyword in _NAMES},
    int(Tag("BitsAllocated")): Element(keyword="BitsAllocated", kind=Kind.SHORT),
}
_REJECTIONS = {3: "it does not support the SOP class", 4: "it supports none of these transfer syntaxes"}


@dataclass(frozen=True, kw_only=True)
class _Sendable:
    """A Part 10 file: what its meta says, where its data set starts, in bytes, and in which syntaxes it can go."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    offset: int
    writable: tuple[UID, ...]


def send(
    destination: Destination, paths: Sequence[Path], calling_ae: str, limits: Limits = DEFAULT_LIMITS
) -> Iterator[SendResult]:
    """Send Part 10 files on one association; yield one result for each path, in order, as each is answered.

    A file goes out byte by byte in its own transfer syntax; only where the peer accepts no more than others is it
    rewritten, without loss: see `daemon.dimse.recode`. What fails on the way is a result, not an exception: an
    association that cannot be had or breaks gives RETRY for all that is left, and says whose turn never came.

    Raises:
        RefusedError: a path is no Part 10 file; nothing was sent.
    """
    sendables = [_describe(path) for path in paths]
    if not sendables:
        return
    proposed = requested(
        [(one.sop_class_uid, one.transfer_syntax_uid) for one in sendables],
        [(one.sop_class_uid, str(uid)) for one in sendables for uid in one.writable],
    )
    done, reached = 0, False
    try:
        with calling(destination, calling_ae, proposed, limits) as (line, acceptance):
            reached = True
            for result in _Turns(line, acceptance).results(sendables):
                yield result
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
        with FileIO(path) as file:
            quick = glance(file.read(_HEAD_BYTES), _WANTED)
        if quick is None or not all(quick.get(keyword) for keyword in _NAMES):
            return _described(path)
    except OSError as error:
        raise _unfit(path, error) from error
    return _Sendable(
        path=path,
        sop_class_uid=str(quick.get("MediaStorageSOPClassUID")),
        sop_instance_uid=str(quick.get("MediaStorageSOPInstanceUID")),
        transfer_syntax_uid=quick.transfer_syntax_uid,
        offset=quick.offset,
        writable=writable(quick.transfer_syntax_uid, int(str(quick.get("BitsAllocated") or 0))),
    )


def _described(path: Path) -> _Sendable:
    """Return the same of a file at which a quick look is not enough."""
    try:
        meta, offset = split_dataset(path)
        return _Sendable(
            path=path,
            sop_class_uid=str(meta.MediaStorageSOPClassUID),
            sop_instance_uid=str(meta.MediaStorageSOPInstanceUID),
            transfer_syntax_uid=str(meta.TransferSyntaxUID),
            offset=offset,
            writable=writable(str(meta.TransferSyntaxUID), bits_allocated(path)),
        )
    except (OSError, AttributeError, InvalidDicomError, EOFError, ValueError) as error:
        raise _unfit(path, error) from error


def _unfit(path: Path, error: Exception) -> RefusedError:
    return RefusedError(f"{path.name}: not a DICOM Part 10 file ({error}); nothing was sent")


class _Turns:
    """Objects in turn on one association: while the peer makes up its mind about one, the next is laid ready.

    It goes out as soon as the answer is there, before whoever asked hears of that and writes it down. So at most one
    object more than was heard of is with the peer when all ends.
    """

    def __init__(self, line: Wire, acceptance: Acceptance) -> None:
        self._line = line
        self._acceptance = acceptance

    def results(self, sendables: Sequence[_Sendable]) -> Iterator[SendResult]:
        """Yield what became of each.

        Raises:
            RetryableError: the association broke, at the object after the last that was told of.
        """
        under_way = False
        for turn, sendable in enumerate(sendables):
            refusal = None if under_way else self._send(sendable, turn)
            under_way = False
            if refusal is not None:
                yield refusal
                continue
            ready = turn + 1 < len(sendables) and self._ready(sendables[turn + 1], turn + 1)
            answer, broken = self._line.answer(), None
            if ready:
                under_way = True
                try:
                    self._line.send()
                except RetryableError as error:
                    broken = error
            yield _judged(sendable, answer)
            if broken is not None:
                raise broken

    def _ready(self, sendable: _Sendable, turn: int) -> bool:
        """Lay an object ready and return True, where it goes as it lies and is not too large."""
        context_id = self._acceptance.contexts.get((sendable.sop_class_uid, sendable.transfer_syntax_uid))
        if context_id is None:
            return False
        command = _command(sendable, turn)
        try:
            with _opened(sendable) as (file, size):
                if not self._line.holds(command, size):
                    return False
                self._line.load(command, context_id, file, size)
        except Exception:  # noqa: BLE001 - whatever it is, it comes again in its own turn, and holds up no other
            return False
        return True

    def _send(self, sendable: _Sendable, turn: int) -> SendResult | None:
        """Send an object in the first syntax that the peer accepts and that it can be written in, or say why not."""
        faults = []
        for syntax in sendable.writable:
            context_id = self._acceptance.contexts.get((sendable.sop_class_uid, str(syntax)))
            if context_id is None:
                continue
            try:
                encoded = None if syntax == sendable.transfer_syntax_uid else recoded(sendable.path, syntax)
            except RefusedError as error:
                faults.append(str(error))
                continue
            self._load(sendable, encoded, context_id, turn)
            self._line.send()
            return None
        cause = "; ".join(faults) or _rejection(self._acceptance, sendable)
        return _result(sendable, SendOutcome.REFUSED, None, _unsupported(sendable, cause))

    def _load(self, sendable: _Sendable, encoded: bytes | None, context_id: int, turn: int) -> None:
        """Lay a data set ready as it lies in the file, never whole in memory, or as it was encoded anew."""
        command = _command(sendable, turn)
        if encoded is not None:
            self._line.load(command, context_id, BytesIO(encoded), len(encoded))
            return
        with _opened(sendable) as (file, size):
            self._line.load(command, context_id, file, size)


def _command(sendable: _Sendable, turn: int) -> bytes:
    return store_request(sendable.sop_class_uid, sendable.sop_instance_uid, message_id=turn % 65535 + 1)


@contextmanager
def _opened(sendable: _Sendable) -> Iterator[tuple[FileIO, int]]:
    """Yield a file where its data set begins, and how long that is, in bytes."""
    with FileIO(sendable.path) as file:
        file.seek(sendable.offset)
        yield file, os.fstat(file.fileno()).st_size - sendable.offset


def _judged(sendable: _Sendable, answer: Answer) -> SendResult:
    judgement = judge(answer.status, answer.offending)
    LOGGER.info("sent %s: status 0x%04X", sendable.sop_instance_uid, answer.status)
    return _result(sendable, judgement.outcome, answer.status, judgement.detail)


def _unsupported(sendable: _Sendable, cause: str) -> str:
    name = UID(sendable.sop_class_uid).name
    syntaxes = ", ".join(uid.name for uid in sendable.writable)
    return f"the destination refuses {name} in every transfer syntax that it can be sent in ({syntaxes}): {cause}"


def _rejection(acceptance: Acceptance, sendable: _Sendable) -> str:
    """Return why its presentation contexts were rejected (PS3.8 Table 9-18)."""
    results = [result for sop_class, result in acceptance.rejected if sop_class == sendable.sop_class_uid]
    return next((_REJECTIONS[result] for result in results if result in _REJECTIONS), "none was accepted")


def _result(sendable: _Sendable, outcome: SendOutcome, status: int | None, detail: str) -> SendResult:
    return SendResult(sop_instance_uid=sendable.sop_instance_uid, outcome=outcome, status=status, detail=detail)
