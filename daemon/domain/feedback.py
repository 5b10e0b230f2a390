"""Feedback: what people say of our results, as a corrected outline (SEG) or as a word, and which result it is of."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

# From here on a correction changed nothing that matters; `training harvest` draws the line at the same place.
CONFIRMED = 0.99


class FeedbackKind(StrEnum):
    """What came back."""

    CORRECTION = "correction"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


class FeedbackState(StrEnum):
    """RECEIVED until it was looked at; UNLINKED says in its detail why it is of no result."""

    RECEIVED = "RECEIVED"
    LINKED = "LINKED"
    UNLINKED = "UNLINKED"


class Evidence(StrEnum):
    """What ties feedback to a job, the surest first."""

    STATED = "stated"
    TRACKING = "tracking-uid"
    REFERENCE = "referenced-sop-instance"
    SERIES = "referenced-series"


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What a returned SEG says of where it comes from.

    `trackings` are Tracking UIDs of its segments (0062,0021), `instances` all Referenced SOP Instance UIDs in it,
    `series` those of its Referenced Series Sequence; `automatic` where every segment is an algorithm's own.
    """

    trackings: frozenset[str]
    instances: frozenset[str]
    series: frozenset[str]
    automatic: bool


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An answered job of the same study; `tracking_uid` is that of its outline, `outputs` its SOP Instance UIDs."""

    job_id: int
    model: str
    tracking_uid: str
    outputs: frozenset[str]
    series: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Returned:
    """A SEG in the spool that somebody is to look at for the `attempts`th time; `digest` is that of its file."""

    id: int
    study_instance_uid: str
    digest: str
    attempts: int


@dataclass(frozen=True, kw_only=True)
class Outline:
    """Our own SEG of a job; `freed` where its file may be gone."""

    digest: str
    freed: bool


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a look at a returned SEG gave: without `job_id` the `detail` says why there is none.

    `dice` between our outline and this one, `ml` of this one; None where it could not be compared, and why in `detail`.
    """

    job_id: int | None = None
    evidence: Evidence | None = None
    detail: str = ""
    dice: float | None = None
    ml: float | None = None

    @property
    def state(self) -> FeedbackState:
        """Return how it stands now."""
        return FeedbackState.UNLINKED if self.job_id is None else FeedbackState.LINKED

    def unmeasured(self, why: str) -> "Outcome":
        """Return the same link, with the reason why it was not compared."""
        return replace(self, detail=why)


def link(claims: Claims, candidates: Sequence[Candidate]) -> Outcome:
    """Return which job a SEG corrects: the newest that its surest evidence names.

    What only outlines the same series is a correction where a person drew it and one model alone has read the series:
    else it is another algorithm's own answer, or nobody can tell whose.
    """
    if not candidates:
        return Outcome(detail="no result of ours is known for its study")
    for evidence, named in (
        (Evidence.TRACKING, [c for c in candidates if c.tracking_uid in claims.trackings]),
        (Evidence.REFERENCE, [c for c in candidates if c.outputs & claims.instances]),
    ):
        if named:
            return Outcome(job_id=_newest(named).job_id, evidence=evidence)
    outlined = [c for c in candidates if c.series & claims.series]
    if not outlined:
        return Outcome(detail="it outlines no series that we read, and names no result of ours")
    if claims.automatic:
        return Outcome(detail="another algorithm's outline of a series that we read, not a correction of ours")
    if len({c.model for c in outlined}) > 1:
        return Outcome(detail="several models read the series that it outlines, and it names the result of none")
    return Outcome(job_id=_newest(outlined).job_id, evidence=Evidence.SERIES)


def _newest(candidates: Iterable[Candidate]) -> Candidate:
    return max(candidates, key=lambda c: c.job_id)


def accepts(kind: FeedbackKind, dice: float | None) -> bool:
    """Return whether feedback leaves our result as it is."""
    return kind is FeedbackKind.ACCEPTED or (dice is not None and dice >= CONFIRMED)
