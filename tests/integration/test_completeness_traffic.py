"""Completeness over real C-STORE traffic: late, missing, repeated, interleaved and out-of-order instances."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from daemon.domain.output import OutputKind
from daemon.domain.reasons import Reason
from daemon.domain.work import Claimed
from tests.pushes import Site, send, site, stack
from tests.results import complete

LEASE = timedelta(minutes=1)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    """A listener over a fresh ledger."""
    with site(tmp_path) as made:
        yield made


def claimed(here: Site) -> Claimed:
    found = here.house.jobs.claim("w", here.house.clock.at, LEASE)
    assert found is not None
    return found


def test_instances_out_of_order_are_one_study(here: Site) -> None:
    """In whatever order slices come, the study is presumed complete after the quiet time and read whole."""
    images = stack(count=14)
    here.push([images[5 * n % 14] for n in range(14)])
    assert here.pass_time(29) == 0
    assert here.pass_time(1) == 1
    assert here.study.verdict == "presumed"
    assert here.read() == {d.SOPInstanceUID for d in images}


def test_a_missing_instance_is_waited_for(here: Site) -> None:
    """A gap holds the study beyond the quiet time; the slice that fills it makes one job with all of them."""
    images = stack(count=14)
    here.push([*images[:6], *images[7:]])
    assert here.pass_time(40) == 0
    assert (here.study.verdict, here.jobs) == ("incomplete", [])
    here.push([images[6]])
    assert here.pass_time(30) == 1
    assert here.read() == {d.SOPInstanceUID for d in images}


def test_an_instance_that_comes_after_the_study_was_given_up_is_its_answer(here: Site) -> None:
    """A gap that nobody fills is a reason, not silence; filled hours later it is read after all."""
    images = stack(count=14)
    here.push([*images[:6], *images[7:]])
    assert here.pass_time(120) == 1
    assert (here.study.verdict, here.study.refusal, here.jobs) == ("incomplete", Reason.MISSING_SLICES, [])
    assert here.pass_time(3600) == 0
    here.push([images[6]])
    assert here.pass_time(30) == 1
    assert (here.study.verdict, here.study.refusal) == ("presumed", "")
    assert len(here.read()) == 14


def test_what_is_repeated_changes_nothing(here: Site) -> None:
    """A study sent twice, before and after it was judged, is one study, waits no longer and makes one job."""
    images = stack()
    here.push(images)
    here.house.clock.at += timedelta(seconds=20)
    with here.association() as second:
        send(second, images)
        assert here.pass_time(10) == 1
    here.push(images)
    assert here.pass_time(3600) == 0
    assert (here.study.instances, here.study.conflicts, len(here.jobs)) == (len(images), 0, 1)


def test_interleaved_associations_hold_the_study_until_the_last_is_closed(here: Site) -> None:
    """Two series on two associations in turns: none is read while either stands, then both in one job."""
    pet, ct = stack("PT", series=1), stack("CT", series=2)
    with here.association("PET1") as first:
        with here.association("CT1") as second:
            for number, pair in enumerate(zip(pet, ct, strict=True)):
                for association, dataset in zip((first, second)[:: 1 if number % 2 else -1], pair, strict=True):
                    send(association, [dataset])
        assert here.pass_time(599) == 0
        assert "open" in here.study.evidence
    assert here.pass_time(0) == 1
    assert [job.bundle for job in here.jobs] == ["petct"]
    assert here.read() == {d.SOPInstanceUID for d in (*pet, *ct)}


def test_a_series_on_an_association_for_each_instance_is_one_job(here: Site) -> None:
    """A sender that opens an association for every instance, each within the quiet time, makes one job."""
    images = stack()
    for image in images:
        here.push([image])
        assert here.pass_time(25) == 0
    assert here.pass_time(5) == 1
    assert len(here.jobs) == 1
    assert len(here.read()) == len(images)


def test_pet_today_and_ct_an_hour_later(here: Site) -> None:
    """A PET alone is refused with that reason; with its CT it is read, whichever came first."""
    here.push(stack("PT", series=1))
    assert here.pass_time(30) == 1
    assert (here.study.refusal, here.jobs) == (Reason.NO_CT, [])
    here.house.clock.at += timedelta(hours=1)
    here.push(stack("CT", count=20, series=2))
    assert here.pass_time(29) == 0
    assert here.pass_time(1) == 1
    assert here.study.refusal == ""
    assert [job.bundle for job in here.jobs] == ["petct"]
    assert len(here.read()) == 32


def test_ct_today_and_pet_an_hour_later(here: Site) -> None:
    """The same the other way round; the hour between counts for nothing."""
    here.push(stack("CT", series=2))
    assert here.pass_time(30) == 1
    assert here.study.refusal == Reason.NO_PET
    here.house.clock.at += timedelta(hours=1)
    here.push(stack("PT", series=1))
    assert here.pass_time(30) == 1
    assert len(here.read()) == 24


def test_late_instances_while_a_worker_reads_make_one_more_job_that_waits(here: Site) -> None:
    """Two late batches make one supplementary job, which begins when the first is done and names its report."""
    images = stack(count=16)
    here.push(images[:12])
    assert here.pass_time(30) == 1
    first = claimed(here)
    for batch in (images[12:14], images[14:]):
        here.push(batch)
        assert here.pass_time(30) == 1
    assert [job.state for job in here.jobs] == ["IN PROGRESS", "CANCELED", "SCHEDULED"]
    assert here.house.jobs.claim("w2", here.house.clock.at, LEASE) is None
    report = complete(here.house, first)
    last = claimed(here)
    assert [p.sop_instance_uid for p in last.predecessors] == [report[OutputKind.REPORT]]
    assert set(last.input.instance_digests) > set(first.input.instance_digests)
    assert len(here.read()) == 16


def test_an_association_that_breaks_off_is_closed_and_the_rest_comes_on_another(here: Site) -> None:
    """A sender that dies in the middle holds the study no longer than its silence does."""
    images = stack(images=12)
    with here.association() as broken:
        send(broken, images[:5])
        broken.abort()
    assert here.pass_time(30) == 0
    assert "5 of 12" in here.study.evidence
    here.push(images[3:])
    assert here.pass_time(4) == 0
    assert here.pass_time(1) == 1
    assert (here.study.verdict, len(here.jobs)) == ("complete", 1)
