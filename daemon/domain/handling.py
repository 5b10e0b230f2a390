"""Handling: how soon a job is taken and by which workers; decided once, when it is made."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from daemon.domain.assembly import Chosen, StudyFacts

_BYTES_PER_PIXEL = 2


class Resource(StrEnum):
    """What a worker must have for a job; each has a queue of its own."""

    CPU = "cpu"
    GPU = "gpu"
    BIG_MEMORY = "big-memory"


class Executor(StrEnum):
    """How workers learn of jobs: they ask the ledger, or messages tell them."""

    LOCAL = "local"
    CELERY = "celery"


class Priority(IntEnum):
    """How soon; the terms are those of Requested Procedure Priority (0040,1003), PS3.3 C.4.11."""

    LOW = -1
    ROUTINE = 0
    HIGH = 1
    STAT = 2


# MEDIUM is a term too, and as good as ROUTINE.
_TERMS = {priority.name: priority for priority in Priority}


@dataclass(frozen=True, kw_only=True)
class Handling:
    """How a job is handled; `reason` says why it is not routine, in words without a patient's."""

    priority: Priority = Priority.ROUTINE
    resource: Resource = Resource.CPU
    reason: str = ""


ORDINARY = Handling()


@dataclass(frozen=True, kw_only=True)
class HandlingRules:
    """The administrator's: who sends urgent studies, which words in a description say so, what wants which worker.

    A study whose pixels take more than `big_bytes` wants big memory; 0: none does.
    """

    urgent_callers: frozenset[str] = frozenset()
    urgent_words: frozenset[str] = frozenset()
    big_bytes: int = 0
    gpu_models: frozenset[str] = frozenset()


NO_RULES = HandlingRules()


def handling(study: StudyFacts, chosen: Chosen, rules: HandlingRules) -> Handling:
    """Return how a job of the study is handled: the most urgent of what speaks for it, routine where nothing does."""
    found = max(_urgencies(study, rules), key=lambda one: one[0], default=(Priority.ROUTINE, ""))
    reason = f"{found[0].name}: {found[1]}" if found[1] else ""
    return Handling(priority=found[0], resource=_resource(chosen, rules), reason=reason)


def _urgencies(study: StudyFacts, rules: HandlingRules) -> Iterator[tuple[Priority, str]]:
    for term in {i.acquisition.requested_priority.upper() for i in study.instances} & _TERMS.keys():
        yield _TERMS[term], "Requested Procedure Priority"
    for caller in sorted(study.callers & rules.urgent_callers):
        yield Priority.STAT, f"sent by {caller}"
    if rules.urgent_words:
        facts = {i.acquisition for i in study.instances}
        texts = {text for f in facts for text in (f.series_description, f.protocol_name)}
        words = {word for text in texts for word in re.split(r"[\W_]+", text.casefold())}
        for word in sorted(w for w in rules.urgent_words if w.casefold() in words):
            yield Priority.STAT, f"a description has the word {word}"


def _resource(chosen: Chosen, rules: HandlingRules) -> Resource:
    instances = [i for series in chosen.series.values() for i in series.instances]
    if 0 < rules.big_bytes < sum(i.rows * i.columns * i.frames for i in instances) * _BYTES_PER_PIXEL:
        return Resource.BIG_MEMORY
    return Resource.GPU if chosen.bundle in rules.gpu_models else Resource.CPU


@dataclass(frozen=True, kw_only=True)
class Hint:
    """What a message says: there is a job, for workers of its kind."""

    job_id: int
    resource: Resource


@dataclass(frozen=True, kw_only=True)
class Depth:
    """What a broker holds of a queue: messages that nobody has in hand, and how many listen (None: it does not say)."""

    messages: int
    listeners: int | None
