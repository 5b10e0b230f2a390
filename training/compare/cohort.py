"""Several runs' numbers over the same studies, side by side."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.explain.cases import UNCALIBRATED, Case, Point, case_of, stream

Numbers = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """One run over the studies of a cohort, each (studies,).

    `dice` NaN where no truth has a voxel; `probability` of tumour, `positive` above the run's threshold; `risk` the
    mean log hazard.
    """

    dice: Numbers
    probability: Numbers
    positive: Flags
    risk: Numbers


@dataclass(frozen=True, kw_only=True, eq=False)
class Cohort:
    """The studies and what is true of them: `tumour`, `time` (days), `died` (studies,), NaN where nobody knows."""

    studies: tuple[str, ...]
    patients: tuple[str, ...]
    sources: tuple[str, ...]
    tumour: Numbers
    time: Numbers
    died: Numbers
    runs: Mapping[str, Run]

    @property
    def labelled(self) -> Flags:
        """Return which studies are known to have a tumour or none."""
        return np.isfinite(self.tumour)

    @property
    def followed(self) -> Flags:
        """Return which studies have follow-up."""
        return np.isfinite(self.time) & np.isfinite(self.died)

    def outlined(self, *runs: str) -> Flags:
        """Return the studies of which all `runs` have a Dice."""
        return np.all([np.isfinite(self.runs[name].dice) for name in runs], axis=0)


def read(folders: Mapping[str, Path], points: Mapping[str, Point], *, common: bool = False) -> Cohort:
    """Return the runs in `folders` of predictions, by name.

    Args:
        folders: a folder of predictions a run.
        points: a run's operating point; uncalibrated where a run has none.
        common: keep only the studies that all runs have.

    Raises:
        FileNotFoundError: a folder has no predictions.
        ValueError: fewer than two runs, studies that not every run has, or truths that differ between runs.
    """
    if len(folders) < 2:
        raise ValueError("a comparison needs at least two runs; name another")
    cases = {
        name: {p.name: case_of(p, points.get(name, UNCALIBRATED)) for p in stream(folder)}
        for name, folder in folders.items()
    }
    shared = set.intersection(*(set(found) for found in cases.values()))
    if not common:
        _demand_equal(cases, shared)
    if not shared:
        raise ValueError(f"{' and '.join(cases)} have no study in common; predict the same samples with each")
    studies = tuple(sorted(shared))
    first = cases[next(iter(cases))]
    for name, found in cases.items():
        _demand_same_truth(studies, name, (first, found))
    return Cohort(
        studies=studies,
        patients=tuple(first[s].patient for s in studies),
        sources=tuple(first[s].source for s in studies),
        tumour=_numbers([first[s].tumour for s in studies]),
        time=_numbers([first[s].time_days for s in studies]),
        died=_numbers([first[s].event for s in studies]),
        runs={name: _run([found[s] for s in studies]) for name, found in cases.items()},
    )


def _demand_equal(cases: Mapping[str, Mapping[str, Case]], shared: set[str]) -> None:
    odd = {name: sorted(set(found) - shared) for name, found in cases.items()}
    told = [
        f"{name} has {', '.join(extra[:5])}{f' and {len(extra) - 5} more' if len(extra) > 5 else ''}"
        for name, extra in odd.items()
        if extra
    ]
    if told:
        raise ValueError(f"not every run has every study: {'; '.join(told)}; predict the missing ones or give --common")


def _demand_same_truth(
    studies: tuple[str, ...], name: str, pair: tuple[Mapping[str, Case], Mapping[str, Case]]
) -> None:
    def truth(case: Case) -> tuple[object, ...]:
        return case.tumour, case.time_days, case.event, None if np.isnan(case.truth_ml) else round(case.truth_ml, 6)

    differing = [s for s in studies if truth(pair[0][s]) != truth(pair[1][s])]
    if differing:
        raise ValueError(
            f"the truth of {', '.join(differing[:5])} in {name} is not that of the first run; "
            "predict the same samples with each"
        )


def _run(cases: list[Case]) -> Run:
    return Run(
        dice=_numbers([c.dice for c in cases]),
        probability=_numbers([c.probability for c in cases]),
        positive=np.array([c.positive for c in cases], dtype=bool),
        risk=_numbers([c.risk for c in cases]),
    )


def _numbers(values: list[float | None] | list[int | None] | list[float]) -> Numbers:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
