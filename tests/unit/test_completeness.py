"""Completeness is judged by evidence before time."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from daemon.domain.assembly import LINGER, Asking, Patience, StudyFacts, Verdict, judge, next_look, to_ask
from daemon.domain.evidence import Inquiry, SeriesListing, Source
from daemon.domain.instance import Instance
from tests.instances import NOW, facts, series

PATIENCE = Patience(quiet=timedelta(seconds=30))
SECOND = timedelta(seconds=1)


def study(*instances: Instance, open_associations: int = 0) -> StudyFacts:
    return StudyFacts(study_instance_uid="1.2", instances=instances, open_associations=open_associations, conflicts=0)


def test_a_quiet_unbroken_series_is_presumed_complete() -> None:
    """Without counts, unbroken slices and a quiet time suffice, and the verdict says that it presumes."""
    facts = study(*series(20))
    assert not judge(facts, NOW + timedelta(seconds=29), PATIENCE).ready
    late = judge(facts, NOW + timedelta(seconds=30), PATIENCE)
    assert (late.verdict, late.ready) == (Verdict.PRESUMED, True)


def test_an_open_association_holds_the_study() -> None:
    """While an association that carried the study stands, more may come; a sender that pauses has ten minutes."""
    facts = study(*series(20), open_associations=1)
    verdict = judge(facts, NOW + LINGER - SECOND, PATIENCE)
    assert (verdict.verdict, verdict.ready) == (Verdict.INCOMPLETE, False)
    assert "open" in verdict.evidence


def test_an_association_that_stays_open_holds_no_study_for_ever() -> None:
    """A sender that never ends it, or sends others' studies on it, is waited for no longer; the evidence says so."""
    verdict = judge(study(*series(20), open_associations=1), NOW + LINGER, PATIENCE)
    assert (verdict.verdict, verdict.ready) == (Verdict.PRESUMED, True)
    assert verdict.evidence == "slices unbroken, quiet for 30 s; an association that carried it is still open"
    broken = study(*(i for n, i in enumerate(series(20)) if n != 7), open_associations=1)
    assert judge(broken, NOW + LINGER, PATIENCE).ready


def test_who_is_patient_is_so_with_open_associations_too() -> None:
    """Where four quiet times are longer than ten minutes, so long is waited."""
    patience = Patience(quiet=timedelta(minutes=5))
    facts = study(*series(20), open_associations=1)
    assert not judge(facts, NOW + timedelta(minutes=20) - SECOND, patience).ready
    assert judge(facts, NOW + timedelta(minutes=20), patience).ready


def test_the_archive_is_asked_once_the_association_holds_no_longer() -> None:
    """Its word is heard before such a study goes on, as of any other."""
    facts, patience = study(*series(20), open_associations=1), replace(PATIENCE, asking=Asking())
    assert not to_ask(facts, NOW + LINGER - SECOND, patience)
    assert to_ask(facts, NOW + LINGER, patience)
    assert not judge(facts, NOW + LINGER, patience).ready
    assert judge(facts, NOW + LINGER + timedelta(seconds=90), patience).ready


def test_counted_images_shorten_the_wait() -> None:
    """Where Images in Acquisition are all there, a sixth of the quiet time is enough."""
    counted = [replace(i, acquisition=replace(i.acquisition, images_in_acquisition=20)) for i in series(20)]
    early = judge(study(*counted), NOW + timedelta(seconds=5), PATIENCE)
    assert (early.verdict, early.ready) == (Verdict.COMPLETE, True)


def test_too_few_counted_images_wait_longer_and_say_how_many() -> None:
    """Fewer images than the acquisition says wait four quiet times, and the evidence counts them."""
    counted = [replace(i, acquisition=replace(i.acquisition, images_in_acquisition=24)) for i in series(20)]
    waiting = judge(study(*counted), NOW + timedelta(seconds=100), PATIENCE)
    assert (waiting.verdict, waiting.ready) == (Verdict.INCOMPLETE, False)
    assert "20 of 24" in waiting.evidence
    assert judge(study(*counted), NOW + timedelta(seconds=120), PATIENCE).ready


def acquired(count: int, number: int, images: int, *, uid: str = "5", first: int = 0) -> list[Instance]:
    """Return `count` slices from the `first` on, of an acquisition that says how many `images` it has."""
    acquisition = facts(acquisition_number=number, images_in_acquisition=images)
    return series(first + count, uid=uid, acquisition=acquisition)[first:]


def outcome(*instances: Instance, seconds: int) -> tuple[Verdict, bool]:
    judged = judge(study(*instances), NOW + timedelta(seconds=seconds), PATIENCE)
    return judged.verdict, judged.ready


def test_acquisitions_that_came_do_not_count_those_to_come() -> None:
    """Two of three acquisitions of a series, or some of one for each slice, do not shorten the wait."""
    blocks = [*acquired(10, 1, 10), *acquired(10, 2, 10, first=10)]
    slices = [i for n in range(12) for i in acquired(1, n, 1, first=n)]
    for instances in (blocks, slices, acquired(12, 1, 1)):
        assert outcome(*instances, seconds=29) == (Verdict.PRESUMED, False)
        assert outcome(*instances, seconds=30) == (Verdict.PRESUMED, True)


def test_an_acquisition_of_several_series_is_counted_over_all_of_them() -> None:
    """Two echoes of 30 slices are the 60 images of their acquisition; until then each says what it lacks."""
    echoes = [*acquired(30, 1, 60, uid="1"), *acquired(30, 1, 60, uid="2")]
    assert outcome(*echoes, seconds=5) == (Verdict.COMPLETE, True)
    partial = judge(study(*echoes[:-10]), NOW + timedelta(seconds=100), PATIENCE)
    assert (partial.verdict, partial.ready) == (Verdict.INCOMPLETE, False)
    assert partial.evidence == "series 1 has 30 of 60 images; series 1 has 20 of 60 images"
    several = [*echoes, *acquired(30, 2, 60, uid="1", first=30), *acquired(30, 2, 60, uid="2", first=30)]
    assert outcome(*several, seconds=30) == (Verdict.PRESUMED, True)


def test_series_that_are_only_numbered_alike_do_not_count_for_each_other() -> None:
    """Many scanners begin each series with acquisition 1: a whole one leaves the other as short as it is."""
    other = [*acquired(20, 1, 20, uid="1"), *acquired(12, 1, 20, uid="2")]
    assert outcome(*other, seconds=100) == (Verdict.INCOMPLETE, False)
    both = [*acquired(15, 1, 20, uid="1"), *acquired(15, 1, 20, uid="2")]
    assert outcome(*both, seconds=100) == (Verdict.INCOMPLETE, False)


def test_an_acquisition_that_contradicts_itself_tells_nothing() -> None:
    """Where its slices give it several counts, neither shortens or lengthens the wait."""
    odd = [*acquired(10, 1, 10), *acquired(10, 1, 30, first=10)]
    assert outcome(*odd, seconds=29) == (Verdict.PRESUMED, False)
    assert outcome(*odd, seconds=30) == (Verdict.PRESUMED, True)


def test_a_gap_waits_longer_and_is_named() -> None:
    """A missing slice is waited for four quiet times, then the study goes on as incomplete."""
    broken = [i for n, i in enumerate(series(20)) if n != 7]
    waiting = judge(study(*broken), NOW + timedelta(seconds=60), PATIENCE)
    assert (waiting.verdict, waiting.ready) == (Verdict.INCOMPLETE, False)
    assert "missing" in waiting.evidence
    assert judge(study(*broken), NOW + timedelta(seconds=121), PATIENCE).ready


def test_the_newest_instance_of_any_series_starts_the_quiet_time_again() -> None:
    """CT an instance later than PET makes the study wait for the CT."""
    late = replace(series(1, uid="9")[0], received_at=datetime(2026, 1, 1, 12, 0, 40, tzinfo=UTC))
    assert not judge(study(*series(20), late), NOW + timedelta(seconds=45), PATIENCE).ready


def test_what_the_archive_sent_is_settled_once_the_inquiry_has_ended() -> None:
    """All has come of what was asked for, yet how many were fetched is still to be told; a limit ends that wait."""
    instances = series(20)
    uid = instances[0].series_instance_uid
    listing = SeriesListing(
        series_instance_uid=uid,
        modality="MR",
        source=Source.ARCHIVE,
        sop_instance_uids=frozenset(i.sop_instance_uid for i in instances),
        retrieve_ae="PACS",
    )
    late, until = NOW + timedelta(seconds=60), NOW + timedelta(seconds=300)
    asking = Inquiry(instances=12, rounds=1, until=until, under_way=True, detail="")
    facts = replace(study(*instances), listings=(listing,), inquiry=asking)
    patience = replace(PATIENCE, asking=Asking())
    assert facts.all_here
    assert not judge(facts, late, patience).ready
    assert judge(facts, until, patience).ready
    ended = replace(facts, inquiry=replace(asking, under_way=False, detail="archive: 8 of 8 missing fetched"))
    told = judge(ended, late, patience)
    assert (told.verdict, told.ready) == (Verdict.COMPLETE, True)
    assert "8 of 8 missing fetched" in told.evidence


def test_nothing_ripens_unseen() -> None:
    """Between a look and the next that is due, neither the verdict nor the question to the archive becomes ready."""
    counted = [replace(i, acquisition=replace(i.acquisition, images_in_acquisition=20)) for i in series(20)]
    gap = [i for n, i in enumerate(series(20)) if n != 7]
    inquiry = Inquiry(instances=20, rounds=1, until=NOW + 70 * SECOND, under_way=True, detail="")
    some = [study(*one, open_associations=n) for one in (series(20), counted, gap) for n in (0, 1)]
    for held in (*some, *(replace(one, inquiry=inquiry) for one in some)):
        for patience in (PATIENCE, replace(PATIENCE, asking=Asking())):
            said = {s: _ready(held, NOW + s * SECOND, patience) for s in range(1000)}
            for second in range(999):
                look = next_look(held, NOW + second * SECOND, patience)
                assert said[second + 1] == said[second] or look == NOW + (second + 1) * SECOND


def _ready(facts: StudyFacts, now: datetime, patience: Patience) -> tuple[bool, bool]:
    return judge(facts, now, patience).ready, to_ask(facts, now, patience)
