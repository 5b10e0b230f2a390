"""The heart of process, without ledger or network: files of the chosen series to checked result objects."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydicom.dataset import Dataset

from daemon.domain.model_bundle import InstalledBundle
from daemon.domain.output import Output, OutputKind
from daemon.domain.references import Reference
from daemon.imaging.read import SourceSeries, read_series
from daemon.imaging.reading import Reading
from daemon.imaging.suv import in_units
from daemon.results import report, segmentation
from daemon.results.check import check
from daemon.results.context import ResultContext
from daemon.results.encode import encode
from daemon.services.ports import Reader


@dataclass(frozen=True, kw_only=True)
class Task:
    """What to read and what the results derive from; `paths` by channel role (MR, or PET and CT)."""

    job_key: str
    study_instance_uid: str
    created_at: datetime
    paths: Mapping[str, Sequence[Path]]
    bundle: InstalledBundle
    predecessors: tuple[Reference, ...] = ()
    revision: int = 1
    software_version: str
    research_use: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class Made:
    """One checked object: what it is, without digest, and its Part 10 bytes."""

    kind: OutputKind
    dataset: Dataset
    content: bytes

    def output(self, digest: str, size: int) -> Output:
        """Return the object as the ledger knows it."""
        return Output(
            kind=self.kind,
            sop_class_uid=str(self.dataset.SOPClassUID),
            sop_instance_uid=str(self.dataset.SOPInstanceUID),
            series_instance_uid=str(self.dataset.SeriesInstanceUID),
            digest=digest,
            size=size,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Analysis:
    """What became of a task."""

    reading: Reading
    source: SourceSeries
    made: tuple[Made, ...]
    seconds: dict[str, float]


def analyse(task: Task, reader: Reader) -> Analysis:
    """Read the series, infer, make SEG and SR, and pass them through the conformance gate.

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
        research_use=task.research_use,
        software_version=task.software_version,
    )
    made = _objects(context, reading)
    finished = time.perf_counter()
    return Analysis(
        reading=reading,
        source=sources[reference],
        made=made,
        seconds={"read": read - started, **reading.seconds, "encode": finished - inferred},
    )


def _objects(context: ResultContext, reading: Reading) -> tuple[Made, ...]:
    outline = segmentation.build(context, reading.labels) if reading.findings.lesions else None
    document = report.build(context, outline)
    made = [(OutputKind.SEGMENTATION, outline), (OutputKind.REPORT, document)]
    objects = tuple(Made(kind=k, dataset=d, content=encode(d)) for k, d in made if d is not None)
    check(context, reading.labels, {m.kind: m.content for m in objects})
    return objects
