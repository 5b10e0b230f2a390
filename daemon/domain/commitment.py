"""Why a destination does not commit an object: Failure Reason (0008,1197), PS3.3 C.14.1.1.2, and what follows."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Consequence(StrEnum):
    """What is done about an object that is not committed."""

    SEND = "it is sent again later"
    LOOK = "it is looked for by a query"
    END = "the delivery is dead"


@dataclass(frozen=True, kw_only=True)
class Denial:
    """A reason in words, and what follows."""

    words: str
    consequence: Consequence


DENIALS: Mapping[int, Denial] = {
    0x0110: Denial(words="processing failure", consequence=Consequence.SEND),
    0x0112: Denial(words="it has no such object", consequence=Consequence.SEND),
    0x0119: Denial(words="it has an object of another class under this UID", consequence=Consequence.END),
    # These two say nothing of the object: it may well be there.
    0x0122: Denial(words="it does not commit this SOP class", consequence=Consequence.LOOK),
    0x0131: Denial(words="the transaction UID was used before", consequence=Consequence.LOOK),
    0x0213: Denial(words="resource limitation", consequence=Consequence.SEND),
}


def denial(reason: int | None) -> Denial:
    """Return what a reason means; one that is not given, or not the standard's, means that the object is not kept."""
    if reason is None:
        return Denial(words="no reason given", consequence=Consequence.SEND)
    known = DENIALS.get(reason, Denial(words="unknown reason", consequence=Consequence.SEND))
    return Denial(words=f"{known.words} (0x{reason:04X})", consequence=known.consequence)
