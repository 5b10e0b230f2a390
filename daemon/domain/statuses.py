"""What a C-STORE status means for a delivery (PS3.4 B.2.3, PS3.7 Annex C); STOW-RS answers with the same values.

A peer may explain a status in an Error Comment (0000,0902). That is free text, which may name a patient: it is never
read. What is kept is the status, the standard's meaning of it, and which data elements it concerns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from daemon.domain.delivery import SendOutcome

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
DUPLICATE_INSTANCE = 0x0111
COERCION = 0xB000
_WARNINGS = frozenset({0x0001, 0x0107, 0x0116, *range(0xB000, 0xC000)})
_NEVER = frozenset({*range(0xA900, 0xAA00), *range(0xC000, 0xD000)})
_MAY_PASS = frozenset({PROCESSING_FAILURE, DUPLICATE_INSTANCE, 0x0213})
_BAD_REQUEST = frozenset(range(0x0100, 0x0300)) - _MAY_PASS - _WARNINGS
_MOST_ELEMENTS = 8

# PS3.7 Annex C, PS3.4 Tables B.2-1 and C.4-2
_MEANINGS: Mapping[int, str] = {
    SUCCESS: "success",
    0x0105: "no such attribute",
    0x0106: "invalid attribute value",
    0x0107: "attribute list error",
    PROCESSING_FAILURE: "processing failure",
    DUPLICATE_INSTANCE: "duplicate SOP instance",
    0x0112: "no such SOP instance",
    0x0113: "no such event type",
    0x0114: "no such argument",
    0x0115: "invalid argument value",
    0x0116: "attribute value out of range",
    0x0117: "invalid SOP instance",
    0x0118: "no such SOP class",
    0x0119: "class and instance conflict",
    0x0120: "missing attribute",
    0x0121: "missing attribute value",
    0x0122: "SOP class not supported",
    0x0123: "no such action",
    0x0124: "not authorised",
    0x0131: "duplicate transaction UID",
    0x0210: "duplicate invocation",
    0x0211: "unrecognised operation",
    0x0212: "mistyped argument",
    0x0213: "resource limitation",
    0xA801: "move destination unknown",
    COERCION: "it changed data elements",
    0xB006: "it discarded data elements",
    0xB007: "it finds that the data set does not match the SOP class",
    0xFE00: "cancelled",
}
_FAMILIES: Sequence[tuple[range, str]] = (
    (range(0xA700, 0xA800), "out of resources"),
    (range(0xA900, 0xAA00), "the data set does not match the SOP class"),
    (range(0xB000, 0xC000), "a warning of its own"),
    (range(0xC000, 0xD000), "it cannot understand the data set, or not process it"),
)


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a peer's C-STORE status means for a delivery, and a sentence for people."""

    outcome: SendOutcome
    detail: str
    status: int | None = None


def in_words(status: int, elements: Sequence[int] = ()) -> str:
    """Return a status in words, with the tags of the data elements that it concerns: Offending Element (0000,0901)."""
    meaning = _MEANINGS.get(status) or next((words for family, words in _FAMILIES if status in family), "")
    tags = ", ".join(f"({tag >> 16:04X},{tag & 0xFFFF:04X})" for tag in elements[:_MOST_ELEMENTS])
    more = " and more" if len(elements) > _MOST_ELEMENTS else ""
    words = f"{meaning}: {tags}{more}" if meaning and tags else f"{meaning or tags}{more}"
    return f"status 0x{status:04X}" + (f" ({words})" if words else "")


def remark(warning: int) -> str:
    """Return what is to be remembered of an object that was stored with a warning, to stand behind other words."""
    return f"; stored with a warning: {in_words(warning)}" if warning else ""


def displaced(warning: int, why: str) -> str:
    """Return what is said of an object that the destination stored and `why` does not vouch for; empty: send it again.

    Who coerced data elements may have coerced the UID too: sent again, the object would lie there twice, or daily.
    """
    if warning != COERCION:
        return ""
    return (
        f"{why}{remark(warning)}; it may keep it under another UID, so it is not sent again: look for it there, "
        "then accept it, or let the destination leave UIDs alone and replay it"
    )


def judge(status: int, elements: Sequence[int] = ()) -> Judgement:
    """Tell what a peer's C-STORE `status` means: stored, refused for good, or to be tried again.

    Warnings 0xB000..0xBFFF mean stored with a remark. An instance that is there already, sent by an attempt whose
    answer was lost, is stored too: the destination is asked for it like for any other. Else 0x01xx and 0x02xx name
    faults of the request, except Processing Failure and Resource Limitation, which may pass. An unknown status is
    tried again: giving up is what cannot be undone.
    """
    words = in_words(status, elements)
    if status == SUCCESS:
        return Judgement(outcome=SendOutcome.STORED, detail="stored", status=status)
    if status in _WARNINGS:
        return Judgement(outcome=SendOutcome.STORED, detail=f"stored with a warning: {words}", status=status)
    if status == DUPLICATE_INSTANCE:
        return Judgement(outcome=SendOutcome.STORED, detail=f"it was there already: {words}", status=status)
    if status in _NEVER:
        detail = f"the destination cannot take this object: {words}"
        return Judgement(outcome=SendOutcome.REFUSED, detail=detail, status=status)
    if status in _BAD_REQUEST:
        detail = f"the destination refuses the request: {words}"
        return Judgement(outcome=SendOutcome.REFUSED, detail=detail, status=status)
    return Judgement(
        outcome=SendOutcome.RETRY, detail=f"the destination could not store it now: {words}", status=status
    )
