"""The tables of docs/conformance-statement.md from the code's own; `python -m tests.statement` writes them."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydicom.uid import UID, ExplicitVRLittleEndian

from daemon.dimse import contexts, listener, recode, statuses
from daemon.dimse.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from daemon.domain import codes, commitment
from daemon.domain.delivery import SendOutcome
from daemon.domain.output import SOP_CLASSES
from daemon.domain.statuses import judge

PATH = Path(__file__).parents[1] / "docs/conformance-statement.md"
BLOCK = re.compile(r"(<!-- table: (?P<name>[a-z -]+) -->\n).*?(<!-- end -->)", re.DOTALL)
OUTCOMES = {
    SendOutcome.STORED: "stored; confirmation follows",
    SendOutcome.REFUSED: "refused for good: the delivery is dead and says why",
    SendOutcome.RETRY: "sent again later",
}
NOTICES = {
    "recorded": statuses.SUCCESS,
    "Study Instance UID is absent": statuses.MISSING_ATTRIBUTE,
    "it cannot be read, or something in it is no UID": statuses.INVALID_ATTRIBUTE_VALUE,
    "it cannot be recorded now": statuses.PROCESSING_FAILURE,
}
REJECTIONS = {
    "calling AE title not allowed": listener.CALLING_AE_NOT_RECOGNISED,
    "called AE title is not ours": listener.CALLED_AE_NOT_RECOGNISED,
    "user identity missing or not accepted, where users are configured": listener.NO_REASON_GIVEN,
    "reception is paused": listener.TEMPORARY_CONGESTION,
    "as many associations as allowed, of all or of this peer": listener.LOCAL_LIMIT_EXCEEDED,
}


def tables() -> dict[str, str]:
    """Return every table as Markdown, by its name in the document."""
    syntaxes = contexts.transfer_syntaxes()
    uncompressed = ", ".join(UID(uid).name for uid in contexts.UNCOMPRESSED[:2])
    services = [(UID(uid).name, uid, role, uncompressed) for uid, role in _services()]
    return {
        "implementation": _table(
            ("item", "value"),
            [("Implementation Class UID", IMPLEMENTATION_CLASS_UID), ("Version Name", IMPLEMENTATION_VERSION_NAME)],
        ),
        "storage scp": _table(
            ("SOP class", "UID"), [(name, uid) for uid, name in {**contexts.RECEIVED, **contexts.RETURNED}.items()]
        ),
        "transfer syntaxes": _table(("transfer syntax", "UID"), [(UID(uid).name, uid) for uid in syntaxes]),
        "services": _table(("SOP class", "UID", "role", "transfer syntaxes"), services),
        "storage scu syntaxes": _table(("transfer syntax", "UID", "which objects"), _sent()),
        "storage scu": _table(
            ("result", "SOP class", "UID"), [(kind.value, UID(uid).name, uid) for kind, uid in SOP_CLASSES.items()]
        ),
        "rejections": _table(
            ("why", "result", "source", "reason"), [(why, *map(str, code)) for why, code in REJECTIONS.items()]
        ),
        "answers": _table(
            ("verdict", "status", "Error Comment"),
            [(v.value, f"0x{s.code:04X}", s.comment or "-") for v, s in statuses.ANSWERS.items()],
        ),
        "denials": _table(
            ("Failure Reason", "meaning", "what we do"),
            [(f"0x{code:04X}", d.words, d.consequence.value) for code, d in commitment.DENIALS.items()],
        ),
        "notices": _table(("outcome", "status"), [(why, f"0x{code:04X}") for why, code in NOTICES.items()]),
        "judgements": _table(("status", "what we do"), _judgements()),
        "private codes": _table(("code", "meaning"), [(c.value, c.meaning) for c in _private()]),
    }


def filled(document: str) -> str:
    """Return the document with every table as the code has it.

    Raises:
        KeyError: the document names a table that is not made, or leaves one out.
    """
    made = tables()
    named = {found["name"] for found in BLOCK.finditer(document)}
    if named != set(made):
        raise KeyError(f"tables {sorted(named ^ set(made))} are in only one of document and code")
    return BLOCK.sub(lambda found: f"{found[1]}{made[found['name']]}\n{found[3]}", document)


def _services() -> Iterable[tuple[str, str]]:
    return (
        (contexts.VERIFICATION, "SCP and SCU"),
        (contexts.INSTANCE_AVAILABILITY, "SCP"),
        (contexts.STORAGE_COMMITMENT, "SCU; reports are heard on associations of either side"),
        (contexts.STUDY_ROOT_FIND, "SCU, SERIES and IMAGE level, by unique keys"),
        (contexts.STUDY_ROOT_MOVE, "SCU, IMAGE level, to our own AE title"),
        (contexts.STUDY_ROOT_GET, "SCU, IMAGE level"),
    )


def _sent() -> Iterable[tuple[str, str, str]]:
    every, whole = set(recode.writable(ExplicitVRLittleEndian, 1)), recode.writable(ExplicitVRLittleEndian, 8)
    return ((uid.name, uid, "all" if uid in every else "with pixels of 8 or 16 bits allocated") for uid in whole)


def _judgements() -> list[tuple[str, str]]:
    """Return runs of C-STORE statuses that are judged alike."""
    runs: list[tuple[int, int, SendOutcome]] = []
    for status in range(0x10000):
        outcome = judge(status).outcome
        if runs and runs[-1][2] is outcome:
            runs[-1] = (runs[-1][0], status, outcome)
        else:
            runs.append((status, status, outcome))
    return [(f"0x{a:04X}" if a == b else f"0x{a:04X} to 0x{b:04X}", OUTCOMES[o]) for a, b, o in runs]


def _private() -> list[codes.Concept]:
    held = [*vars(codes).values(), *codes.ANSWERS.values(), *codes.REASONS.values()]
    return [
        concept for concept in held if isinstance(concept, codes.Concept) and concept.scheme == codes.PRIVATE_SCHEME
    ]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


if __name__ == "__main__":
    PATH.write_text(filled(PATH.read_text(encoding="utf-8")), encoding="utf-8")
