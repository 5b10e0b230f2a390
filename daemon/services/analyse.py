"""The heart of process, without ledger or network: files of the chosen series to checked result objects."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from daemon.domain.model_bundle import InstalledBundle
from daemon.domain.output import ALWAYS, OutputKind
from daemon.domain.references import Reference
from daemon.imaging.read import SourceSeries, read_series
from daemon.imaging.reading import Reading
from daemon.imaging.suv import in_units
from daemon.results.context import ResultContext
from daemon.results.make import Made, make
from daemon.services.ports import Reader


@dataclass(frozen=True, kw_only=True)
class Task:
    """What to read and what the results derive from; `paths` by channel role (MR, or PET and CT).

    `kinds` are the results that somebody gets; SEG and SR are made all the same.
    """

    job_key: str
    study_instance_uid: str
    created_at: datetime
    paths: Mapping[str, Sequence[Path]]
    bundle: InstalledBundle
    predecessors: tuple[Reference, ...] = ()
    revision: int = 1
    unread: tuple[str, ...] = ()
    software_version: str
    research_use: bool = True
    kinds: frozenset[OutputKind] = frozenset(ALWAYS)


@dataclass(frozen=True, kw_only=True, eq=False)
class Analysis:
    """What became of a task."""

    reading: Reading
    source: SourceSeries
    made: tuple[Made, ...]
    seconds: dict[str, float]


def analyse(task: Task, reader: Reader) -> Analysis:
    """Read the series, infer, make the results, and pass them through the conformance gate.

    Raises:
        UnprocessableError: the series cannot be read, or an object fails the gate; nothing is given out then.
    """
    started = time.perf_counter()
    sources = {role: read_series(paths) for role, paths in task.paths.items()}
    volumes = {role: in_units(role, source) for role, source in sources.items()}
    read = time.perf_counter()
    reading = reader.read(task.bundle.ref, volumes, task.study_instance_uid)
    inferred = time.perf_counter()
    reference = task.bundle.manifest.recipe.channels[0].role
    context = ResultContext(
        job_key=task.job_key,
        created_at=task.created_at,
        source=sources[reference],
        others=tuple(s for role, s in sources.items() if role != reference),
        bundle=task.bundle,
        findings=reading.findings,
        predecessors=task.predecessors,
        revision=task.revision,
        unread=task.unread,
        research_use=task.research_use,
        software_version=task.software_version,
    )
    made = make(context, reading, task.kinds)
    finished = time.perf_counter()
    return Analysis(
        reading=reading,
        source=sources[reference],
        made=made,
        seconds={"read": read - started, **reading.seconds, "encode": finished - inferred},
    )
