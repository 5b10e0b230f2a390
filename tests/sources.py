"""Result contexts over small synthetic sources, for tests of result objects."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import FileDataset

from daemon.domain.finding import Answer, Doubt, Estimate, Findings, Interval, RiskClass, Uncertainty
from daemon.domain.model_bundle import NO_BUNDLE, BundleRef, InstalledBundle, Manifest
from daemon.domain.output import OutputKind
from daemon.domain.reasons import Reason
from daemon.imaging.facts import Stored, read_facts
from daemon.imaging.lesions import Maps, measure
from daemon.imaging.read import SourceSeries, read_header, read_series
from daemon.imaging.reading import Reading
from daemon.imaging.volume import Grid, Volume
from daemon.results import not_processed, report, segmentation
from daemon.results.context import RefusalContext, ResultContext
from daemon.results.encode import encode
from dicom_fixtures.planes import Layout
from dicom_fixtures.studies import StudyRequest, make_brain_mri
from tests.manifests import BRAIN

CREATED = datetime(2026, 3, 5, 11, 0, 0, tzinfo=UTC)
COARSE = (6.0, 3.0, 3.0)


def coarse_head(folder: Path) -> list[FileDataset]:
    """Return a head MR with a tumour, by slice from below; its files are in `folder`."""
    made = make_brain_mri(StudyRequest(seed=3, spacing=COARSE, layout=Layout(spacing=COARSE, matrix=(64, 64))), folder)
    slices = [pydicom.dcmread(path) for path in made.series["FLAIR"]]
    return sorted(slices, key=lambda d: float(d.ImagePositionPatient[2]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A source with an outline, and the SEG and SR that come of it; `reading` is what others are made of."""

    context: ResultContext
    reading: Reading
    labels: NDArray[np.uint8]
    contents: dict[OutputKind, bytes]


def blobs(source: SourceSeries, count: int, radius: int = 3) -> NDArray[np.bool_]:
    """Return `count` boxes that differ in size, off centre, so that any flip moves them."""
    mask = np.zeros(source.volume.grid.size, dtype=bool)
    depth, rows, columns = source.volume.grid.size
    for n in range(count):
        z, y, x = depth // 2 - 2 * n, rows // 4 + 3 * n, columns // 3 + (n * 13) % (columns // 2)
        mask[max(z - 1, 0) : z + 1, y : y + radius, x : x + radius + n % 2] = True
    return mask


def case(
    paths: list[Path],
    count: int = 1,
    manifest: Manifest = BRAIN,
    mask: NDArray[np.bool_] | None = None,
    along: list[Path] | None = None,
) -> Case:
    """Build the objects for `count` lesions in the series at `paths`, with which the one `along` was read."""
    source = read_series(paths)
    outline = blobs(source, count) if mask is None else mask
    suv = source.volume.voxels if manifest.name == "petct" else None
    maps = Maps(probability=outline * np.float32(0.9), sd=outline * np.float32(0.05), suv=suv)
    lesions, labels = measure(maps, source.volume.grid, 0.5, 0.0)
    doubts = (Doubt.UNFAMILIAR,) if lesions else (Doubt.BAND,)
    findings = Findings(
        answer=Answer.LIKELY if lesions else Answer.UNCERTAIN,
        tumour_probability=Estimate(mean=0.93, sd=0.02),
        survival_risk=Estimate(mean=0.41, sd=0.11),
        risk_class=RiskClass.MODERATE,
        survival={1: Estimate(mean=0.9, sd=0.01), 2: Estimate(mean=0.7, sd=0.02), 5: Estimate(mean=0.4, sd=0.03)},
        uncertainty=Uncertainty(score=0.2, flag=bool(doubts), doubts=doubts),
        lesions=lesions,
        volume_ml=Interval(low=1.5, high=9.25, coverage=0.9) if lesions else None,
        passes=30,
        seed=1,
    )
    context = ResultContext(
        job_key="k" * 64,
        created_at=CREATED,
        source=source,
        others=(read_series(along),) if along else (),
        bundle=InstalledBundle(ref=BundleRef(name=manifest.name, version="0.0.1", digest="d" * 64), manifest=manifest),
        findings=findings,
        unread=("MR series 9, 3 images. The series is a localizer.",),
        software_version="0.1.0",
    )
    outlined = segmentation.build(context, labels) if lesions else None
    pair = {OutputKind.REPORT: report.build(context, outlined), OutputKind.SEGMENTATION: outlined}
    contents = {kind: encode(dataset) for kind, dataset in pair.items() if dataset is not None}
    return Case(context=context, reading=_reading(findings, labels, maps), labels=labels, contents=contents)


@dataclass(frozen=True, kw_only=True, eq=False)
class RefusedCase:
    """A study that was not read, and its report."""

    context: RefusalContext
    content: bytes


def refused(paths: list[Path], reason: Reason, failed: BundleRef = NO_BUNDLE, **changes: object) -> RefusedCase:
    """Build the report that the series at `paths` was not read."""
    stored = Stored(digest="d" * 64, size=1, received_at=CREATED, patient_salt=b"")
    context = RefusalContext(
        job_key="r" * 64,
        created_at=CREATED,
        software_version="0.1.0",
        sample=read_header(paths[0]),
        received=tuple(read_facts(path, stored) for path in paths),
        failed=failed,
        reason=reason,
    )
    context = replace(context, **changes)  # type: ignore[arg-type]
    return RefusedCase(context=context, content=encode(not_processed.build(context)))


def _reading(findings: Findings, labels: NDArray[np.uint8], maps: Maps) -> Reading:
    slices, rows, columns = labels.shape
    unit = Grid(size=(slices, rows, columns), spacing=(1, 1, 1), origin=(0, 0, 0))
    return Reading(
        findings=findings,
        labels=labels,
        probability=maps.probability,
        sd=maps.sd,
        activation=Volume(voxels=maps.probability, grid=unit),
        find_entropy=lambda: maps.sd * np.float32(8),
        seconds={},
    )
