"""Evidence and decisions between received instances and jobs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from daemon.domain.geometry import flaw
from daemon.domain.instance import Instance, Series, by_series
from daemon.domain.reasons import Reason


class Verdict(StrEnum):
    """How sure it is that all instances of a study have come."""

    COMPLETE = "complete"
    PRESUMED = "presumed"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, kw_only=True)
class Completeness:
    """A verdict, the evidence in words, and whether to go ahead with it now."""

    verdict: Verdict
    evidence: str
    ready: bool


@dataclass(frozen=True, kw_only=True)
class StudyFacts:
    """What the ledger knows of a study; `open_associations` counts those that carried it and still stand."""

    study_instance_uid: str
    instances: tuple[Instance, ...]
    open_associations: int
    conflicts: int


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to wait: `quiet` without evidence; a sixth of it with all images counted; four times with a gap."""

    quiet: timedelta = timedelta(seconds=30)

    @property
    def settled(self) -> timedelta:
        """Return the wait once every expected image has come; other series of the study may still follow."""
        return self.quiet / 6

    @property
    def hopeful(self) -> timedelta:
        """Return the wait for a missing slice."""
        return self.quiet * 4


# What came later than now came by a clock that has been set right since, beyond what two machines' clocks may differ.
SKEW = timedelta(minutes=1)


def judge(study: StudyFacts, now: datetime, patience: Patience) -> Completeness:
    """Return the completeness of a study, by evidence before time."""
    times = [i.received_at for i in study.instances if i.received_at <= now + SKEW]
    silent = now - max(times, default=now - patience.hopeful)
    series = [s for s in by_series(study.instances) if len(s.instances) > 1]
    gaps = [s for s in series if flaw(s.instances) is Reason.MISSING_SLICES]
    short = [text for text in map(_shortfall, series) if text]
    if study.open_associations:
        return Completeness(
            verdict=Verdict.INCOMPLETE, evidence="an association that carries the study is open", ready=False
        )
    if gaps or short:
        evidence = "; ".join([*(f"a slice is missing in series {_number(s)}" for s in gaps), *short])
        return Completeness(verdict=Verdict.INCOMPLETE, evidence=evidence, ready=silent >= patience.hopeful)
    if series and all(_counted(s) for s in series):
        return Completeness(
            verdict=Verdict.COMPLETE,
            evidence="every series holds as many images as its acquisition says",
            ready=silent >= patience.settled,
        )
    return Completeness(
        verdict=Verdict.PRESUMED,
        evidence=f"slices unbroken, no association open, quiet for {silent.total_seconds():.0f} s",
        ready=silent >= patience.quiet,
    )


def _expected(series: Series) -> int | None:
    counts: Mapping[int | None, int | None] = {
        i.acquisition.acquisition_number: i.acquisition.images_in_acquisition for i in series.instances
    }
    known = [n for n in counts.values() if n]
    return sum(known) if known and len(known) == len(counts) else None


def _counted(series: Series) -> bool:
    expected = _expected(series)
    return expected is not None and len(series.instances) >= expected


def _shortfall(series: Series) -> str:
    expected = _expected(series)
    if expected is None or len(series.instances) >= expected:
        return ""
    return f"series {_number(series)} has {len(series.instances)} of {expected} images"


def _number(series: Series) -> str:
    number = series.first.acquisition.series_number
    return "without number" if number is None else str(number)


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A bundle and the series it shall read, by channel role."""

    bundle: str
    series: Mapping[str, Series]


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why no bundle can read a study, in code and words."""

    reason: Reason
    detail: str


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What shall be read; `refusal` stands only where nothing can be."""

    chosen: Sequence[Chosen]
    refusal: Refusal | None = None
