"""What is in a prepared folder: counts, tumours, size, intensity, follow-up, by split and source."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from training.data.sample import Sample
from training.data.splits import check, facts_of, sample_files

PERCENTILES = (1, 50, 99)
ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One split and source, `all` for every one.

    `tumour_ratio` is the share of samples with tumour among those where it is known. `tumour_ml` is the median volume
    of outlined tumours, `foreground` the median share of their voxels. `spacing` (slice, row, column) is in mm,
    `size` (slices, rows, columns) median with `size_min` and `size_max`. `intensity` holds the 1st, 50th and 99th
    percentile of each channel in model units: medians over samples. `followed`, `events` and `days` (median) are
    counted by patient.
    """

    split: str
    source: str
    patients: int
    samples: int
    outlined: int
    tumours: int
    normals: int
    unknown: int
    tumour_ratio: float | None
    tumour_ml: float | None
    foreground: float | None
    spacing: tuple[tuple[float, float, float], ...]
    size: tuple[float, ...]
    size_min: tuple[int, ...]
    size_max: tuple[int, ...]
    intensity: tuple[tuple[float, ...], ...]
    followed: int
    events: int
    days: float | None


@dataclass(frozen=True, kw_only=True)
class _Measured:
    split: str
    source: str
    patient: str
    tumour: int | None
    outlined: bool
    voxels: int
    spacing: tuple[float, float, float]
    size: tuple[int, ...]
    intensity: tuple[tuple[float, ...], ...]
    time_days: float | None
    event: int | None


def stats(folder: Path) -> list[Row]:
    """Return a row for each split and source, each split, and all.

    Raises:
        FileNotFoundError: `folder` holds no samples.
        LeakError: a patient is in two splits.
    """
    paths = list(sample_files(folder))
    if not paths:
        raise FileNotFoundError(f"no samples in {folder}/samples; prepare some first")
    check(facts_of(path) for path in paths)
    measured = [
        _measure(path) for path in track(paths, description="measure", console=Console(stderr=True), transient=True)
    ]
    splits, sources = _values(m.split for m in measured), _values(m.source for m in measured)
    groups = [(split, source) for split in splits for source in (*sources, ALL)]
    if len(splits) > 1:
        groups += [(ALL, source) for source in (*sources, ALL)]
    chosen = ((split, source, _within(measured, split, source)) for split, source in groups)
    return [_row(split, source, members) for split, source, members in chosen if members]


def _values(found: Iterable[str]) -> list[str]:
    order = ("train", "tune", "test")
    return sorted(set(found), key=lambda name: (order.index(name) if name in order else len(order), name))


def _within(measured: Sequence[_Measured], split: str, source: str) -> list[_Measured]:
    return [m for m in measured if split in {m.split, ALL} and source in {m.source, ALL}]


def _measure(path: Path) -> _Measured:
    sample = Sample.load(path)
    facts = facts_of(path)
    channels = sample.image.astype(np.float32).reshape(len(sample.image), -1)
    percentiles = np.percentile(channels, PERCENTILES, axis=1).T
    return _Measured(
        split=facts.split or "none",
        source=sample.source,
        patient=facts.patient,
        tumour=sample.tumour,
        outlined=sample.mask is not None,
        voxels=0 if sample.mask is None else int(sample.mask.sum()),
        spacing=sample.spacing,
        size=sample.image.shape[1:],
        intensity=tuple(tuple(float(v) for v in channel) for channel in percentiles),
        time_days=sample.time_days,
        event=sample.event,
    )


def _row(split: str, source: str, members: Sequence[_Measured]) -> Row:
    labels = [m.tumour for m in members]
    known = len(labels) - labels.count(None)
    drawn = [m for m in members if m.voxels]
    followed = {m.patient: m for m in members if m.time_days is not None}
    sizes = np.array([m.size for m in members])
    return Row(
        split=split,
        source=source,
        patients=len({m.patient for m in members}),
        samples=len(members),
        outlined=sum(m.outlined for m in members),
        tumours=labels.count(1),
        normals=labels.count(0),
        unknown=labels.count(None),
        tumour_ratio=labels.count(1) / known if known else None,
        tumour_ml=_median([m.voxels * float(np.prod(m.spacing)) / 1000 for m in drawn]),
        foreground=_median([m.voxels / float(np.prod(m.size)) for m in drawn]),
        spacing=tuple(sorted({m.spacing for m in members})),
        size=tuple(float(n) for n in np.median(sizes, axis=0)),
        size_min=tuple(int(n) for n in sizes.min(axis=0)),
        size_max=tuple(int(n) for n in sizes.max(axis=0)),
        intensity=_intensity(members),
        followed=len(followed),
        events=sum(m.event or 0 for m in followed.values()),
        days=_median([m.time_days for m in followed.values() if m.time_days is not None]),
    )


def _intensity(members: Sequence[_Measured]) -> tuple[tuple[float, ...], ...]:
    found = np.median(np.array([m.intensity for m in members]), axis=0)
    return tuple(tuple(round(float(v), 4) for v in channel) for channel in found)


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None
