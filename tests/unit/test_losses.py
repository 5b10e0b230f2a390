"""What becomes of the job of a worker that died."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from daemon.domain.job import JobInput
from daemon.domain.model_bundle import BundleRef
from daemon.domain.reasons import Reason
from daemon.ledger.queries import Queries
from daemon.services.losses import Losses
from tests.houses import House
from tests.instances import NOW, series

LEASE = timedelta(seconds=30)


@pytest.fixture
def house(tmp_path: Path, engine: Engine) -> House:
    """A house with one job to do."""
    made = House(tmp_path, engine)
    for instance in series(3):
        made.intake.record(instance, "a1")
    made.intake.closed("a1", NOW)
    job = JobInput(study_instance_uid="1.2", series={"MR": "1.2.5"}, instance_digests=("x",))
    reference = BundleRef(name="b", version="1", digest="d" * 64)
    made.jobs.settle(made.jobs.waiting_studies()[0], [(job, reference)], None, NOW)
    return made


def test_it_waits_longer_each_time_and_fails_in_the_end(house: House) -> None:
    """How the worker ended and what to do stand with the job; asked to retry, it begins anew."""
    losses = Losses(house.jobs, house.clock, LEASE, most=3)
    for deaths, code in ((1, -9), (2, 1)):
        assert house.jobs.claim("w", house.clock.at, LEASE)
        losses.worker_lost("w", code)
        (job,) = Queries(house.engine).jobs()
        assert (job.state, job.detail) == (
            "SCHEDULED",
            f"its worker ended by {'signal 9 (Killed)' if code < 0 else 'exit code 1'}",
        )
        assert house.jobs.claim("w", house.clock.at + LEASE * deaths - timedelta(seconds=1), LEASE) is None
        house.clock.at += LEASE * deaths
    assert house.jobs.claim("w", house.clock.at, LEASE)
    losses.worker_lost("w", -9)
    (job,) = Queries(house.engine).jobs()
    assert (job.state, job.reason) == ("FAILED", Reason.TOO_MANY_ATTEMPTS)
    assert job.detail.startswith("3 workers ended at it, the last by signal 9 (Killed); if memory ran out")
    house.jobs.retry(job.id, house.clock.at)
    assert house.jobs.claim("w", house.clock.at, LEASE)
    losses.worker_lost("w", -9)
    assert [job.state for job in Queries(house.engine).jobs()] == ["SCHEDULED"]


def test_only_what_it_had_in_hand_is_touched(house: House) -> None:
    """A worker that died idle, or one of another's job, costs nothing."""
    claimed = house.jobs.claim("alive", NOW, LEASE)
    assert claimed is not None
    Losses(house.jobs, house.clock, LEASE, most=1).worker_lost("dead", -9)
    assert house.jobs.renew(claimed.lease, NOW + LEASE)
