"""What a study that is not read gets: a checked report of why."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from daemon.domain.instance import Instance
from daemon.domain.output import OutputKind
from daemon.domain.reasons import Reason
from daemon.domain.work import Claimed
from daemon.imaging.read import read_header
from daemon.results import not_processed
from daemon.results.check import check_not_processed
from daemon.results.context import RefusalContext
from daemon.results.encode import encode
from daemon.results.make import Made


@dataclass(frozen=True, kw_only=True)
class RefusedTask:
    """A job that reports a refusal: `sample` is a sound file of one of the instances `received`."""

    claimed: Claimed
    reason: Reason
    received: Sequence[Instance]
    sample: Path
    software_version: str
    research_use: bool = True


def refuse(task: RefusedTask) -> Made:
    """Make the report and pass it through the conformance gate.

    Raises:
        UnprocessableError: the sample cannot be parsed, or the report fails the gate; nothing is given out then.
    """
    claimed = task.claimed
    context = RefusalContext(
        job_key=claimed.key,
        created_at=claimed.created_at,
        predecessors=claimed.predecessors,
        revision=claimed.revision,
        research_use=task.research_use,
        software_version=task.software_version,
        sample=read_header(task.sample),
        received=tuple(task.received),
        failed=claimed.bundle,
        reason=task.reason,
    )
    dataset = not_processed.build(context)
    made = Made(kind=OutputKind.REPORT, dataset=dataset, content=encode(dataset))
    check_not_processed(context, made.content)
    return made
