"""The clock jumps: nothing is lost, done twice, given up, or left waiting for a time that a wrong clock wrote."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from daemon.domain.assembly import Patience, StudyFacts, judge
from daemon.domain.job import JobInput
from daemon.domain.model_bundle import BundleRef
from daemon.domain.work import Result
from daemon.ledger.listings import Listings
from daemon.ledger.seconds import Seconds
from daemon.ledger.times import Reach, Times
from tests.houses import PACS, House
from tests.instances import NOW, series

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
REACH = Reach(lease=MINUTE, job=25 * MINUTE, delivery=30 * MINUTE)
REF = BundleRef(name="b", version="1", digest="d" * 64)


@pytest.fixture
def house(tmp_path: Path, engine: Engine) -> House:
    """A house with an empty ledger."""
    return House(tmp_path, engine)


@pytest.fixture
def times(house: House) -> Times:
    """What rights times."""
    return Times(house.engine, REACH)


def scheduled(house: House) -> None:
    """Let one job wait for a worker."""
    for instance in series(3):
        house.intake.record(instance, "a1")
    house.intake.closed("a1", NOW)
    job = JobInput(study_instance_uid="1.2", series={"MR": "1.2.5"}, instance_digests=("x",))
    house.jobs.settle(house.jobs.waiting_studies()[0], [(job, REF)], None, house.clock.at)


def test_an_hour_back_a_lost_worker_costs_a_lease_not_an_hour(house: House, times: Times) -> None:
    """A lease that a dead worker took by a clock an hour ahead lapses after its length, not after the hour."""
    scheduled(house)
    assert house.jobs.claim("dead", NOW + HOUR, MINUTE)
    assert house.jobs.claim("alive", NOW, MINUTE) is None
    assert times.correct(NOW) == 1
    assert house.jobs.claim("alive", NOW + MINUTE / 2, MINUTE) is None
    assert house.jobs.claim("alive", NOW + 2 * MINUTE, MINUTE)


def test_a_day_forward_one_of_two_workers_writes(house: House) -> None:
    """Another worker takes the job whose lease seems to have lapsed; the first one's answer is then not written."""
    scheduled(house)
    first = house.jobs.claim("first", NOW, MINUTE)
    second = house.jobs.claim("second", NOW + DAY, MINUTE)
    assert first is not None
    assert second is not None
    result = Result(findings=None, outputs=(), destinations=(), seconds={})
    assert house.jobs.complete(second.lease, result, NOW + DAY)
    assert not house.jobs.complete(first.lease, result, NOW + DAY)


def test_a_delivery_put_off_by_a_wrong_clock_is_due_again(house: House, times: Times) -> None:
    """What failed while the clock stood six hours ahead is tried once it is set right, the circuit with it."""
    house.completed(b"one")
    deliver, _ = house.post()
    house.courier.down, house.clock.at = True, NOW + 6 * HOUR
    for _ in range(3):
        deliver.step(PACS.name)
        circuit = house.circuits.get(PACS.name)
        assert circuit is not None
        house.clock.at = circuit.next_at
    house.courier.down, house.clock.at = False, NOW
    assert deliver.step(PACS.name) == 0
    assert times.correct(NOW) > 0
    assert deliver.step(PACS.name) == 1
    assert house.states() == ["SENT"]


def test_an_archive_that_a_wrong_clock_put_off_is_asked_again(house: House, times: Times) -> None:
    """An inquiry that began a day ahead, and was cut off, holds its study no longer once the clock is set right."""
    scheduled(house)
    listings = Listings(house.engine)
    study = StudyFacts(study_instance_uid="1.2", instances=tuple(series(3)), open_associations=0, conflicts=0)
    assert listings.begin(study, NOW + DAY, NOW + DAY + 5 * MINUTE)
    assert not listings.begin(study, NOW, NOW + 5 * MINUTE)
    assert times.correct(NOW) == 1
    assert listings.begin(study, NOW, NOW + 5 * MINUTE)


def test_a_listener_that_was_lost_by_a_wrong_clock_is_lost(house: House, times: Times) -> None:
    """Its associations end as those of any lost one, rather than when the time comes that it was last heard of at."""
    house.intake.record(series(1)[0], "a1")
    house.intake.alive(NOW + DAY)
    later = NOW + 3 * MINUTE
    house.intake.close_all(NOW, NOW - 2 * MINUTE)
    assert times.correct(NOW) == 1
    house.intake.close_all(later, later - 2 * MINUTE)
    assert house.jobs.waiting_studies()[0].open_associations == 0
    assert times.correct(NOW) == 0


def test_a_second_read_that_a_wrong_clock_took_is_taken_again(house: House) -> None:
    """One that a worker began a day ahead, and died at, is not held until then; a sound clock's is."""
    house.completed(b"one")
    seconds = Seconds(house.engine)
    seconds.ask(1, BundleRef(name="b", version="2", digest="e" * 64), "ada", NOW)
    assert seconds.claim(NOW + DAY, NOW + DAY + HOUR)
    assert seconds.claim(NOW, NOW + HOUR)
    assert seconds.claim(NOW, NOW + HOUR) is None


def test_what_is_due_in_good_time_is_left_alone(house: House, times: Times) -> None:
    """A sound clock's times are not touched."""
    scheduled(house)
    assert house.jobs.claim("w", NOW, MINUTE)
    assert times.correct(NOW) == 0


def test_a_study_that_came_by_a_wrong_clock_is_judged() -> None:
    """Instances received tomorrow, by a clock since set right, do not hold their study until tomorrow."""
    came = tuple(replace(i, received_at=NOW + DAY) for i in series(20))
    study = StudyFacts(study_instance_uid="1.2", instances=came, open_associations=0, conflicts=0)
    assert judge(study, NOW, Patience()).ready
    one_now = (replace(came[0], received_at=NOW), *came[1:])
    assert not judge(replace(study, instances=one_now), NOW, Patience()).ready
