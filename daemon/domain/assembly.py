"""Evidence and decisions between received instances and jobs."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property

from daemon.domain.evidence import Inquiry, SeriesListing
from daemon.domain.geometry import flaw
from daemon.domain.instance import Instance, Series, by_series
from daemon.domain.reasons import Reason

# A PET is read with its CT, so that either waits for the other once it is known to exist.
_PAIR = frozenset({"PT", "CT"})
# How far two machines' clocks may differ.
SKEW = timedelta(minutes=1)
# A sender may pause within a study, for the next acquisition or for another's turn; one that says nothing for so long
# has left its association open, and our listener ends it by now where it is wholly idle. Others' studies may keep one
# busy for days. What comes later all the same is read by a supplementary job.
LINGER = timedelta(minutes=10)
# Modality, Acquisition Number and Images in Acquisition (PS3.3 C.7.6.1): no more is told of which acquisition it was.
_Acquisition = tuple[str, int | None, int]


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
    """What the ledger knows of a study; `open_associations` counts those that carried it and still stand.

    `oversize`: instances of it were refused because it has as much as is taken. `listings` are what others say that
    its series hold, `notified_at` when the newest notification of it came, `inquiry` what came of asking the archive,
    None where it was not asked, `callers` the AE titles that sent it.
    """

    study_instance_uid: str
    instances: tuple[Instance, ...]
    open_associations: int
    conflicts: int
    oversize: bool = False
    listings: tuple[SeriesListing, ...] = ()
    notified_at: datetime | None = None
    inquiry: Inquiry | None = None
    callers: frozenset[str] = frozenset()

    def silent(self, now: datetime) -> timedelta:
        """Return how long ago the newest instance came, or the newest word of one.

        Where all of it came by a clock that has been set right since, the silence is endless.
        """
        newest = self.newest(now)
        return timedelta.max if newest is None else now - newest

    def newest(self, now: datetime) -> datetime | None:
        """Return when that came. What came later than now came by a wrong clock, and does not count."""
        times = [i.received_at for i in self.instances]
        told = [t for t in (*times, self.notified_at) if t is not None and t <= now + SKEW]
        return max(told, default=None)

    @cached_property
    def listed(self) -> Mapping[str, frozenset[str]]:
        """Return the SOP Instance UIDs that any source lists, by series."""
        found: dict[str, frozenset[str]] = {}
        for listing in self.listings:
            uid = listing.series_instance_uid
            found[uid] = found.get(uid, frozenset()) | listing.sop_instance_uids
        return found

    @cached_property
    def unlisted(self) -> tuple[Series, ...]:
        """Return the series that nobody lists, or lists by less than is here: who lists them is behind."""
        listed = self.listed
        return tuple(
            series
            for series in by_series(self.instances)
            if not {i.sop_instance_uid for i in series.instances} <= listed.get(series.series_instance_uid, frozenset())
        )

    @property
    def all_here(self) -> bool:
        """Return whether every series is listed, and every instance that is listed has come."""
        return not self.missing and not self.unlisted

    @property
    def asked(self) -> bool:
        """Return whether the archive was asked since the newest instance came."""
        inquiry = self.inquiry
        return inquiry is not None and not inquiry.under_way and inquiry.instances == len(self.instances)

    @property
    def absent(self) -> tuple[SeriesListing, ...]:
        """Return the listings of series of which nothing has come."""
        here = {i.series_instance_uid for i in self.instances}
        return tuple(x for x in self.listings if x.series_instance_uid not in here and x.sop_instance_uids)

    @property
    def counterpart(self) -> str:
        """Return PT where only CT of the two came, CT where only PT did, else nothing."""
        here = {i.acquisition.modality for i in self.instances} & _PAIR
        return "".join(_PAIR - here) if len(here) == 1 else ""

    @cached_property
    def missing(self) -> Mapping[str, frozenset[str]]:
        """Return what is listed and not here, by series.

        That is the rest of series that have begun to come, and the CT that is listed beside a PET, or the PET beside a
        CT. Other series are the sender's to choose.
        """
        here = {i.sop_instance_uid for i in self.instances}
        begun = {i.series_instance_uid for i in self.instances}
        wanted = begun | {x.series_instance_uid for x in self.absent if x.modality == self.counterpart}
        return {uid: uids - here for uid, uids in self.listed.items() if uid in wanted and uids - here}


class Retrieval(StrEnum):
    """How what lacks is fetched: not at all, by C-MOVE to our listener, or by C-GET on the association that asks."""

    OFF = "off"
    MOVE = "move"
    GET = "get"


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How an archive is asked: how long its answer is awaited beyond the quiet time, and how what lacks is fetched.

    What it cannot give is asked for `rounds` times.
    """

    answer: timedelta = timedelta(seconds=60)
    retrieve: Retrieval = Retrieval.OFF
    rounds: int = 3


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to wait: `quiet` without evidence; a sixth of it with all images counted; four times with a gap.

    `asking` is None where no archive is asked.
    """

    quiet: timedelta = timedelta(seconds=30)
    asking: Asking | None = None

    @property
    def settled(self) -> timedelta:
        """Return the wait once every expected image has come; other series of the study may still follow."""
        return self.quiet / 6

    @property
    def hopeful(self) -> timedelta:
        """Return the wait for a missing slice."""
        return self.quiet * 4

    @property
    def held(self) -> timedelta:
        """Return how long an open association lets its study wait for more."""
        return max(self.hopeful, LINGER)


def judge(study: StudyFacts, now: datetime, patience: Patience) -> Completeness:
    """Return the completeness of a study, by evidence before time; the archive is heard before it is settled."""
    judged = _by_evidence(study, now, patience)
    if judged.ready and _awaited(study, now, patience):
        return replace(judged, ready=False, evidence=f"{judged.evidence}; the archive is asked")
    if study.inquiry and study.inquiry.detail:
        return replace(judged, evidence=f"{judged.evidence}; {study.inquiry.detail}")
    return judged


def next_look(study: StudyFacts, now: datetime, patience: Patience) -> datetime | None:
    """Return when `judge` or `to_ask` may next say something else of the same facts; None where they will not."""
    waits = {patience.settled, patience.quiet, patience.hopeful, patience.held}
    if patience.asking:
        answered = patience.quiet + patience.asking.answer
        waits |= {answered, patience.held + answered}
    newest = study.newest(now)
    moments = {newest + wait for wait in waits} if newest else set()
    if study.inquiry:
        moments.add(study.inquiry.until)
    return min((moment for moment in moments if moment > now), default=None)


def to_ask(study: StudyFacts, now: datetime, patience: Patience) -> bool:
    """Return whether the archive is to be asked now: its word is awaited, or what it listed did not come."""
    asking, inquiry = patience.asking, study.inquiry
    if asking is None or study.all_here or (inquiry and now < inquiry.until):
        return False
    silent = study.silent(now)
    if _held(study, silent, patience):
        return False
    if silent < patience.quiet and not _by_evidence(study, now, patience).ready:
        return False
    if inquiry is None or not study.asked:
        return True
    return asking.retrieve is not Retrieval.OFF and bool(study.missing) and inquiry.rounds < asking.rounds


def _awaited(study: StudyFacts, now: datetime, patience: Patience) -> bool:
    """Return whether the archive's answer is still to be had; a limit ends the wait for one that does not answer.

    Where all came of what it was asked to send, it is still to say so: the evidence is written once.
    """
    if patience.asking is None or study.asked:
        return False
    if study.inquiry and study.inquiry.under_way:
        return now < study.inquiry.until
    if study.all_here:
        return False
    # It is asked only once an open association holds the study no longer.
    held = patience.held if study.open_associations else timedelta()
    return study.silent(now) < held + patience.quiet + patience.asking.answer


def _held(study: StudyFacts, silent: timedelta, patience: Patience) -> bool:
    """Return whether an open association that carried the study is likely to bring more of it."""
    return study.open_associations > 0 and silent < patience.held


def _by_evidence(study: StudyFacts, now: datetime, patience: Patience) -> Completeness:
    silent = study.silent(now)
    if study.all_here:
        return _all_here(study, silent, patience)
    if _held(study, silent, patience):
        return Completeness(
            verdict=Verdict.INCOMPLETE, evidence="an association that carries the study is open", ready=False
        )
    judged = _by_slices(study, silent, patience)
    if study.open_associations:
        return replace(judged, evidence=f"{judged.evidence}; an association that carried it is still open")
    return judged


def _by_slices(study: StudyFacts, silent: timedelta, patience: Patience) -> Completeness:
    """Judge a study by what has come of it, and how long ago."""
    stacks = [s for s in study.unlisted if len(s.instances) > 1]
    gaps = [f"a slice is missing in series {_number(s)}" for s in stacks if flaw(s.instances) is Reason.MISSING_SLICES]
    spread = _spread(by_series(study.instances))
    wanting = [*_unmet(study), *gaps, *(text for text in (_shortfall(s, spread) for s in stacks) if text)]
    if wanting:
        return Completeness(verdict=Verdict.INCOMPLETE, evidence="; ".join(wanting), ready=silent >= patience.hopeful)
    if stacks and all(_counted(s, spread) for s in stacks):
        return Completeness(
            verdict=Verdict.COMPLETE,
            evidence="every acquisition has as many images as it says",
            ready=silent >= patience.settled,
        )
    # Not how long it has been quiet so far: evidence that changes is written each time.
    quiet = "quiet for" if silent >= patience.quiet else "not yet quiet for"
    ended = "" if study.open_associations else ", no association open"
    return Completeness(
        verdict=Verdict.PRESUMED,
        evidence=f"slices unbroken{ended}, {quiet} {patience.quiet.total_seconds():g} s",
        ready=silent >= patience.quiet,
    )


def _all_here(study: StudyFacts, silent: timedelta, patience: Patience) -> Completeness:
    """Judge a study of which every listed instance has come: at once, unless more is likely on its way."""
    sources = " and ".join(sorted({f"the {listing.source.value}" for listing in study.listings}))
    evidence = f"every instance that {sources} lists is here"
    if study.absent:
        others = len({listing.series_instance_uid for listing in study.absent})
        held = _held(study, silent, patience)
        return Completeness(
            verdict=Verdict.COMPLETE,
            evidence=f"{evidence}, of the series that were sent; {others} more are listed",
            ready=silent >= patience.quiet and not held,
        )
    growing = study.open_associations or not all(listing.whole for listing in study.listings)
    wait = patience.settled if growing else timedelta()
    return Completeness(verdict=Verdict.COMPLETE, evidence=evidence, ready=silent >= wait)


def _unmet(study: StudyFacts) -> Iterator[str]:
    """Yield in words what is listed and not here."""
    numbers = {s.series_instance_uid: _number(s) for s in by_series(study.instances)}
    for uid, missing in study.missing.items():
        if uid in numbers:
            total = len(study.listed[uid])
            yield f"series {numbers[uid]} has {total - len(missing)} of the {total} instances listed"
        else:
            yield f"a {study.counterpart} series of {len(missing)} instances is listed and has not come"


def _acquisitions(series: Series) -> Counter[_Acquisition]:
    """Return how many images of each acquisition a series holds; those that do not say count as of 0 images."""
    told = (i.acquisition for i in series.instances)
    return Counter((a.modality, a.acquisition_number, a.images_in_acquisition or 0) for a in told)


def _spread(study: Sequence[Series]) -> frozenset[_Acquisition]:
    """Return the acquisitions whose images lie in several series, as of two echoes, and are all here.

    Series that have nothing to do with each other may be numbered alike: one that holds as many by itself is left out,
    and the rest must add up exactly.
    """
    shares: Counter[_Acquisition] = Counter()
    for series in study:
        shares.update({a: count for a, count in _acquisitions(series).items() if count < a[-1]})
    return frozenset(a for a, count in shares.items() if count == a[-1])


def _counted(series: Series, spread: frozenset[_Acquisition]) -> bool:
    """Return whether a series holds what its acquisition says; of several, others may be yet to come."""
    found = _acquisitions(series)
    return len(found) == 1 and all(a[-1] > 1 and (count >= a[-1] or a in spread) for a, count in found.items())


def _shortfall(series: Series, spread: frozenset[_Acquisition]) -> str:
    found = _acquisitions(series)
    expected = sum(count if a in spread else a[-1] for a, count in found.items())
    # An acquisition that gives several counts, or none, tells nothing.
    vague = len({a[:-1] for a in found}) < len(found) or not all(a[-1] for a in found)
    if vague or len(series.instances) >= expected:
        return ""
    return f"series {_number(series)} has {len(series.instances)} of {expected} images"


def _number(series: Series) -> str:
    number = series.first.acquisition.series_number
    return "without number" if number is None else str(number)


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A bundle and the series it shall read, by channel role; `unread` says of each other one why it is not."""

    bundle: str
    series: Mapping[str, Series]
    unread: tuple[str, ...] = ()


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
