"""What the listener announces of an arriving object, and what becomes of it."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, kw_only=True)
class Interrupted:
    """Instances of one study and SOP class that an association brought before the process that served it ended."""

    association: str
    calling_ae: str
    study_instance_uid: str
    patient_key: str
    sop_class_uid: str
    instances: int


@dataclass(frozen=True, kw_only=True)
class Announced:
    """What the C-STORE request and its association say before the first byte of the data set.

    `association` names one association of one listener process, unique over restarts.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    calling_ae: str
    called_ae: str
    association: str


class Verdict(StrEnum):
    """What became of an arriving object; the listener turns it into a C-STORE status (PS3.4 B.2.3)."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    OURS = "ours"
    MALFORMED = "malformed"
    MISMATCH = "mismatch"
    TOO_LARGE = "too-large"
    TOO_MANY = "too-many"


# Of these verdicts nothing of the instance is recorded, and the sender is told.
REFUSED = frozenset({Verdict.TOO_LARGE, Verdict.TOO_MANY})
# Of these verdicts it was here before.
KNOWN = frozenset({Verdict.DUPLICATE, Verdict.OURS})
