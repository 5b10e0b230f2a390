"""What a C-STORE status means for a delivery (PS3.4 B.2.3, PS3.7 Annex C); STOW-RS answers with the same values."""

from dataclasses import dataclass

from daemon.domain.delivery import SendOutcome

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
_WARNINGS = frozenset({0x0001, 0x0107, 0x0116, *range(0xB000, 0xC000)})
_NEVER = frozenset({*range(0xA900, 0xAA00), *range(0xC000, 0xD000)})
_BAD_REQUEST = frozenset(range(0x0100, 0x0300)) - {PROCESSING_FAILURE, 0x0213} - _WARNINGS


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a peer's C-STORE status means for a delivery, and a sentence for people."""

    outcome: SendOutcome
    detail: str
    status: int | None = None


def judge(status: int, comment: str = "") -> Judgement:
    """Tell what a peer's C-STORE `status` means: stored, refused for good, or to be tried again.

    Warnings 0xB000..0xBFFF mean stored with a remark. 0x01xx and 0x02xx name faults of the request, except
    Processing Failure and Resource Limitation, which may pass. An unknown status is tried again: giving up
    is what cannot be undone.
    """
    said = f"status 0x{status:04X}" + (f" ({comment})" if comment else "")
    if status == SUCCESS:
        return Judgement(outcome=SendOutcome.STORED, detail="stored", status=status)
    if status in _WARNINGS:
        return Judgement(outcome=SendOutcome.STORED, detail=f"stored with a warning: {said}", status=status)
    if status in _NEVER:
        return Judgement(
            outcome=SendOutcome.REFUSED, detail=f"the destination cannot take this object: {said}", status=status
        )
    if status in _BAD_REQUEST:
        return Judgement(
            outcome=SendOutcome.REFUSED, detail=f"the destination refuses the request: {said}", status=status
        )
    return Judgement(outcome=SendOutcome.RETRY, detail=f"the destination could not store it now: {said}", status=status)
