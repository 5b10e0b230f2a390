"""Result contexts over small synthetic sources, for tests of result objects."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from daemon.domain.finding import Answer, Doubt, Estimate, Findings, Interval, RiskClass, Uncertainty
from daemon.domain.model_bundle import BundleRef, InstalledBundle, Manifest
from daemon.domain.output import OutputKind
from daemon.imaging.lesions import Maps, measure
from daemon.imaging.read import SourceSeries, read_series
from daemon.results import report, segmentation
from daemon.results.context import ResultContext
from daemon.results.encode import encode
from tests.manifests import BRAIN

CREATED = datetime(2026, 3, 5, 11, 0, 0, tzinfo=UTC)
COARSE = (6.0, 3.0, 3.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A source with an outline, and the objects that come of it."""

    context: ResultContext
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


def case(paths: list[Path], count: int = 1, manifest: Manifest = BRAIN, mask: NDArray[np.bool_] | None = None) -> Case:
    """Build the objects for `count` lesions in the series at `paths`."""
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
        others=(),
        bundle=InstalledBundle(ref=BundleRef(name=manifest.name, version="0.0.1", digest="d" * 64), manifest=manifest),
        findings=findings,
        software_version="0.1.0",
    )
    outlined = segmentation.build(context, labels) if lesions else None
    document = report.build(context, outlined)
    contents = {OutputKind.REPORT: encode(document)}
    if outlined is not None:
        contents[OutputKind.SEGMENTATION] = encode(outlined)
    return Case(context=context, labels=labels, contents=contents)
