"""A study's way through the house as lines: when, how long after the first instance, and where in the whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from daemon.bootstrap import House

_WIDTH = 24


@dataclass(frozen=True, kw_only=True)
class Step:
    """Something that happened to a study; `after` is in seconds since its first instance."""

    at: datetime
    after: float
    line: str
    what: str
    detail: str


def timeline(here: "House", study: str, jobs: Sequence[int]) -> list[Step]:
    """Return every step of a study, from its first instance to the last word of a destination."""
    from daemon.ledger.overview import Overview

    overview = Overview(here.engine)
    line = overview.study(study)
    if line is None:
        return []
    deliveries = {d.id: d for d in overview.deliveries(jobs)}
    found = [(line.first_at, "first instance", ""), (line.last_at, "last instance", line.evidence)]
    for event in overview.timeline(jobs, list(deliveries)):
        delivery = deliveries.get(event.subject_id) if event.subject == "delivery" else None
        who = f"{delivery.kind} to {delivery.destination}" if delivery else f"{event.subject} {event.subject_id}"
        found.append((event.at, f"{who}: {event.new}", event.detail))
    found.sort(key=lambda step: step[0])
    begin, whole = found[0][0], (found[-1][0] - found[0][0]).total_seconds()
    return [
        Step(at=at, after=(at - begin).total_seconds(), line=_line(at, begin, whole), what=what, detail=detail)
        for at, what, detail in found
    ]


def _line(at: datetime, begin: datetime, whole: float) -> str:
    place = round((at - begin).total_seconds() / whole * (_WIDTH - 1)) if whole else 0
    return "─" * place + "●" + "─" * (_WIDTH - 1 - place)
