"""Samples on disk as memory maps: unpacked once, then read crop by crop by every process at no cost in memory."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from rich.progress import track

from training.data.sample import Sample, npz_files
from training.data.splits import facts_of

_NO_SAMPLE = (BadZipFile, KeyError, OSError, ValueError, TypeError)


@dataclass(frozen=True, kw_only=True, eq=False)
class Cohort:
    """Samples to learn from, and those that tell when to stop.

    Those of `adapt`, such as a few real patients beside many synthetic ones, join after the warm-up; crops and studies
    are drawn from them `adapt_weight` times as often as from one of `train`. `measured` are the patients, as far as
    they are known, that nothing may be learnt from.

    Raises:
        ValueError: a patient is for two of these.
    """

    train: Sequence[Sample]
    tune: Sequence[Sample]
    adapt: Sequence[Sample] = ()
    adapt_weight: int = 1
    measured: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        learning, tuning = ({patient_of(s) for s in samples} for samples in (self.everyone, self.tune))
        for shared, places in ((learning & tuning, "tune"), ((learning | tuning) & self.measured, "test")):
            if shared:
                first = "train" if shared & learning else "tune"
                raise ValueError(f"patients {sorted(shared)[:5]} are in {first} and in {places}; split by patient")

    @property
    def everyone(self) -> list[Sample]:
        """Return each sample to learn from once."""
        return [*self.train, *self.adapt]

    @property
    def drawn(self) -> list[Sample]:
        """Return the samples to draw from, those that weigh more repeated."""
        return [*self.train, *(s for s in self.adapt for _ in range(self.adapt_weight))]


def patient_of(sample: Sample) -> str:
    """Return whose sample it is; one without a patient is its own."""
    return sample.patient or sample.name


def open_cohort(samples: Path, cache: Path) -> Cohort:
    """Return the samples of `samples`/train and `samples`/tune as memory maps kept in `cache`.

    The patients of `samples`/test, where there are any, are those that are measured.

    Raises:
        FileNotFoundError: a split is missing or empty.
        ValueError: a file is no sample, or a patient is in two splits.
    """
    train, tune = (open_samples(samples / split, cache) for split in ("train", "tune"))
    return Cohort(train=train, tune=tune, measured=patients_in(samples / "test"))


def open_samples(folder: Path, cache: Path) -> list[Sample]:
    """Return every sample of a folder, its arrays memory-mapped.

    Raises:
        FileNotFoundError: the folder holds no samples.
        ValueError: a file is no sample.
    """
    paths = npz_files(folder)
    if not paths:
        raise FileNotFoundError(f"no samples (*.npz) in {folder}; make them with prepare or synth")
    missing = [p for p in paths if not _unpacked(p, cache).is_dir()]
    for path in track(missing, description=f"unpack {folder.name}", disable=not missing):
        _unpack(path, _unpacked(path, cache))
    return [_open(path, _unpacked(path, cache)) for path in paths]


def patients_in(folder: Path) -> frozenset[str]:
    """Return whose samples a folder holds, without reading images; nobody's where there is no folder.

    Raises:
        ValueError: a file is no sample.
    """
    return frozenset(_patient_in(path) for path in npz_files(folder))


def _patient_in(path: Path) -> str:
    try:
        return facts_of(path).patient
    except _NO_SAMPLE as error:
        raise _refused(path, error) from error


def _refused(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path} is no sample ({error}); make it anew with prepare or synth")


def _unpacked(path: Path, cache: Path) -> Path:
    """Return where a sample is unpacked; a changed file gets another place."""
    state = path.stat()
    return cache / f"{path.stem}-{state.st_size:x}-{state.st_mtime_ns:x}"


def _unpack(path: Path, target: Path) -> None:
    try:
        sample = Sample.load(path)
    except _NO_SAMPLE as error:
        raise _refused(path, error) from error
    partial = target.with_name(f"{target.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    np.save(partial / "image.npy", sample.image)
    if sample.mask is not None:
        np.save(partial / "mask.npy", sample.mask)
    (partial / "facts.json").write_text(json.dumps(sample.facts()), encoding="utf-8")
    partial.rename(target)


def _open(path: Path, target: Path) -> Sample:
    facts = json.loads((target / "facts.json").read_text(encoding="utf-8"))
    facts |= {"spacing": tuple(facts["spacing"]), "strata": tuple(facts["strata"])}
    mask = target / "mask.npy"
    return Sample(
        name=path.stem,
        image=np.load(target / "image.npy", mmap_mode="r"),
        mask=np.load(mask, mmap_mode="r") if mask.exists() else None,
        **facts,
    )
