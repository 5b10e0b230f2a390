"""Which objects a job makes, and from what: a table of builders, and the gate over all of them."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from io import BytesIO

import pydicom
from pydicom.dataset import Dataset

from daemon.domain.output import ALWAYS, Output, OutputKind
from daemon.imaging.reading import Reading
from daemon.results import (
    check_pointers,
    check_visible,
    key_images,
    key_objects,
    maps,
    presentation,
    report,
    segmentation,
    summary,
)
from daemon.results.check import check, complete
from daemon.results.context import ResultContext
from daemon.results.encode import encode

Builder = Callable[[ResultContext, Reading], list[Dataset]]
Gate = Callable[[list[Dataset], ResultContext, Reading], None]

BESIDE: Mapping[OutputKind, tuple[Builder, Gate]] = {
    OutputKind.KEY_IMAGES: (key_images.build, check_visible.check_key_images),
    OutputKind.ACTIVATION: (key_images.build_activation, check_visible.check_activation),
    OutputKind.SUMMARY: (summary.build, check_visible.check_summary),
    OutputKind.PRESENTATION: (presentation.build, check_pointers.check_presentation),
    OutputKind.KEY_OBJECTS: (key_objects.build, check_pointers.check_key_objects),
    OutputKind.UNCERTAINTY: (maps.build_uncertainty, check_visible.check_uncertainty),
    OutputKind.PROBABILITY: (maps.build_probability, check_visible.check_probability),
}


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


def make(context: ResultContext, reading: Reading, kinds: Collection[OutputKind] = ALWAYS) -> tuple[Made, ...]:
    """Return the objects: SEG (where something is outlined) and SR, and beside them those of `kinds`.

    Raises:
        UnprocessableError: one fails the conformance gate; nothing is given out then.
    """
    outline = segmentation.build(context, reading.labels) if reading.findings.lesions else None
    document = report.build(context, outline)
    pair = [(OutputKind.SEGMENTATION, outline), (OutputKind.REPORT, document)]
    first = tuple(Made(kind=k, dataset=d, content=encode(d)) for k, d in pair if d is not None)
    check(context, reading.labels, {made.kind: made.content for made in first})
    return (*first, *(made for kind in BESIDE if kind in kinds for made in _beside(kind, context, reading)))


def _beside(kind: OutputKind, context: ResultContext, reading: Reading) -> tuple[Made, ...]:
    build, gate = BESIDE[kind]
    made = tuple(Made(kind=kind, dataset=d, content=encode(d)) for d in build(context, reading))
    written: list[Dataset] = [pydicom.dcmread(BytesIO(one.content)) for one in made]
    for dataset in written:
        complete(kind, dataset, context)
    gate(written, context, reading)
    return made
