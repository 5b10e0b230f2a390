"""The end of the audit log, in pages, without reading the rest of it."""

import json
from dataclasses import dataclass

from daemon.audit.chain import Chain

PAGE = 100
# Some hundred lines; a line takes 1 to 3 KB.
_BLOCK = 1 << 18


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A line of the log; `outcome` is None where it cannot be read."""

    number: int
    time: str
    event: str
    type: str
    outcome: int | None
    who: str
    what: str


@dataclass(frozen=True, kw_only=True)
class AuditPage:
    """Lines, newest first; the page that follows ends at byte `until`, 0 where there is none."""

    rows: tuple[Entry, ...]
    until: int


def newest(chain: Chain, until: int = 0) -> AuditPage:
    """Return the lines that end at byte `until` or before; 0 is the log's end."""
    if not chain.path.exists():
        return AuditPage(rows=(), until=0)
    size = chain.path.stat().st_size
    end = min(until, size) if until else size
    begin = max(0, end - _BLOCK)
    with chain.path.open("rb") as file:
        file.seek(begin)
        block = file.read(end - begin)
    whole = block[: block.rfind(b"\n") + 1]
    # The first line of a block may have begun before it.
    skipped = whole.find(b"\n") + 1 if begin else 0
    lines = whole[skipped:].splitlines(keepends=True)
    shown = lines[-PAGE:]
    before = begin + len(whole) - sum(map(len, shown))
    return AuditPage(rows=tuple(_entry(line) for line in reversed(shown)), until=before)


def _entry(line: bytes) -> Entry:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    document = found if isinstance(found, dict) else {}
    number, outcome = document.get("number"), document.get("outcome")
    return Entry(
        number=number if isinstance(number, int) else 0,
        time=str(document.get("time", "")),
        event=str(document.get("event", "unreadable line")),
        type=str(document.get("type", "")),
        outcome=outcome if isinstance(outcome, int) else None,
        who=_joined(document.get("who")),
        what=_joined(document.get("what")),
    )


def _joined(found: object) -> str:
    return ", ".join(map(str, found)) if isinstance(found, list) else ""
