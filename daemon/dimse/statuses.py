"""C-STORE statuses that we answer (PS3.4 B.2.3, PS3.7 Annex C), as tables."""

from collections.abc import Mapping
from dataclasses import dataclass

from daemon.domain.reception import Verdict
from daemon.domain.statuses import PROCESSING_FAILURE, SUCCESS

__all__ = [
    "ANSWERS",
    "CANNOT_UNDERSTAND",
    "COMMENT_LENGTH",
    "INVALID_ATTRIBUTE_VALUE",
    "INVALID_OBJECT_INSTANCE",
    "MISMATCH",
    "MISSING_ATTRIBUTE",
    "OUT_OF_RESOURCES",
    "PENDING",
    "PROCESSING_FAILURE",
    "SOP_CLASS_NOT_SUPPORTED",
    "SUCCESS",
    "UNRECOGNISED_OPERATION",
    "Status",
    "answer",
]

INVALID_ATTRIBUTE_VALUE = 0x0106
INVALID_OBJECT_INSTANCE = 0x0117
MISSING_ATTRIBUTE = 0x0120
SOP_CLASS_NOT_SUPPORTED = 0x0122
UNRECOGNISED_OPERATION = 0x0211
OUT_OF_RESOURCES = 0xA700
MISMATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000
PENDING = frozenset({0xFF00, 0xFF01})

COMMENT_LENGTH = 64  # Error Comment is LO, PS3.7 E.1


@dataclass(frozen=True, kw_only=True)
class Status:
    """What goes back to the peer: the status and an Error Comment, empty where there is nothing to say."""

    code: int
    comment: str = ""


ANSWERS: Mapping[Verdict, Status] = {
    Verdict.STORED: Status(code=SUCCESS),
    Verdict.DUPLICATE: Status(code=SUCCESS),
    # a result that we made came back: it is here already
    Verdict.OURS: Status(code=SUCCESS),
    # kept beside the first and flagged: nothing is lost, so the sender must not try for ever
    Verdict.CONFLICT: Status(code=SUCCESS),
    Verdict.TOO_LARGE: Status(code=OUT_OF_RESOURCES, comment="Larger than is taken here; see the log of the receiver"),
    Verdict.TOO_MANY: Status(code=OUT_OF_RESOURCES, comment="Too many of its study; see the log of the receiver"),
    Verdict.MALFORMED: Status(code=CANNOT_UNDERSTAND, comment="The data set cannot be read as DICOM"),
    Verdict.MISMATCH: Status(code=MISMATCH, comment="The data set does not match its SOP class or UID"),
}


def answer(verdict: Verdict) -> Status:
    """Return the C-STORE status for `verdict`."""
    return ANSWERS[verdict]
