"""One arriving object, whoever asked for the association: bytes to the reception, a C-STORE status back."""

import logging
from typing import Protocol

from daemon.dimse.part10 import head
from daemon.dimse.ports import Incoming, Reception
from daemon.dimse.statuses import (
    CANNOT_UNDERSTAND,
    INVALID_OBJECT_INSTANCE,
    OUT_OF_RESOURCES,
    PROCESSING_FAILURE,
    Status,
    answer,
)
from daemon.domain.reception import Announced
from daemon.errors import OverreadError, RefusedError
from daemon.uids import is_uid

LOGGER = logging.getLogger(__name__)


class Sink(Protocol):
    """Where a data set goes; exactly one of `finish` and `abort` ends it."""

    def write(self, data: bytes | memoryview) -> None:
        """Take the next bytes."""
        ...

    def finish(self) -> Status:
        """Return the answer."""
        ...

    def abort(self) -> None:
        """Forget it."""
        ...


class Refuse:
    """Lets a data set run out and answers with a status that was clear before it came."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def write(self, data: bytes | memoryview) -> None:
        """Drop it."""

    def finish(self) -> Status:
        """Return that status."""
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


def store(reception: Reception, announced: Announced) -> Sink:
    """Return where the data set of an announced object goes; its file begins with what was announced."""
    uid = announced.sop_instance_uid
    if not is_uid(uid):
        return Refuse(Status(code=INVALID_OBJECT_INSTANCE, comment="Not a valid SOP Instance UID"))
    try:
        begun = _Store(reception.open(announced), uid)
    except Exception as error:  # noqa: BLE001 - edge of the loop: the sender gets an answer, whatever it is
        return Refuse(_fault(error, uid))
    begun.write(head(announced.sop_class_uid, uid, announced.transfer_syntax_uid))
    return begun


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
