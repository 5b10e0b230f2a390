"""Messages that tell of jobs: once, again when they seem lost, and never more than is due."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from sqlalchemy import Engine

from daemon.domain.handling import Depth, Handling, Hint, Resource
from daemon.domain.job import JobInput
from daemon.domain.model_bundle import BundleRef
from daemon.errors import RetryableError
from daemon.executors.worker import Hands
from daemon.ledger.outbox import TOLD, TOLD_AGAIN, Outbox
from daemon.services.dispatch import BATCH, Dispatch, DispatchRules, lost
from tests.houses import House
from tests.instances import NOW, series

PATIENCE = timedelta(seconds=30)
LEASE = timedelta(minutes=10)


class FakeBroker:
    """A broker that keeps what it is given, unless it is `down`."""

    def __init__(self) -> None:
        self.held: list[Hint] = []
        self.down = False

    def publish(self, hints: Sequence[Hint]) -> None:
        """Keep them."""
        if self.down:
            raise RetryableError("down")
        self.held += hints

    def depths(self) -> Mapping[Resource, Depth]:
        """Count them."""
        if self.down:
            raise RetryableError("down")
        counts = {resource: sum(hint.resource is resource for hint in self.held) for resource in Resource}
        return {resource: Depth(messages=count, listeners=None) for resource, count in counts.items()}


class Station:
    """A ledger with jobs, a broker, and the verb between them."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        self.house, self.broker, self.outbox = House(folder, engine), FakeBroker(), Outbox(engine)
        self.dispatch = Dispatch(self.outbox, self.broker, self.house.clock, DispatchRules(patience=PATIENCE))

    def add(self, count: int, handled: Handling = Handling()) -> None:  # noqa: B008 - frozen
        """Schedule jobs, each of a study of its own."""
        for number in range(count):
            uid = f"1.2.{handled.resource.value}.{number}"
            self.house.intake.record(replace(series(1, uid=uid)[0], study_instance_uid=uid), "a1")
        for study in self.house.jobs.waiting_studies():
            job = JobInput(
                study_instance_uid=study.study_instance_uid,
                series={"MR": "1"},
                instance_digests=(study.study_instance_uid,),
                handling=handled,
            )
            bundle = BundleRef(name="b", version="1", digest="d" * 64)
            assert self.house.jobs.settle(study, [(job, bundle)], None, self.house.clock.at)

    def step(self, seconds: float = 0) -> int:
        """Let time pass; return how many messages went out."""
        self.house.clock.at += timedelta(seconds=seconds)
        return self.dispatch.step()

    def claim(self) -> int | None:
        """Claim a job; return its number."""
        claimed = self.house.jobs.claim("w", self.house.clock.at, LEASE)
        return claimed.lease.job_id if claimed else None


@pytest.fixture
def station(tmp_path: Path, engine: Engine) -> Station:
    """An empty one."""
    return Station(tmp_path, engine)


def test_each_job_is_told_of_once(station: Station) -> None:
    """As many messages as jobs, however often it is looked and however long they lie there."""
    station.add(3)
    assert station.step() == 3
    assert [station.step(seconds) for seconds in (0, 31, 31, 3600)] == [0, 0, 0, 0]
    assert station.outbox.tallies() == {TOLD: 3}


def test_messages_that_seem_lost_are_sent_again(station: Station) -> None:
    """As many as the broker lacks, once their time is over; a job that was claimed is none of them."""
    station.add(3)
    station.step()
    assert station.claim() == 1
    del station.broker.held[1:]
    assert station.step(29) == 0
    assert station.step(2) == 1
    assert station.outbox.tallies() == {TOLD: 3, TOLD_AGAIN: 1}
    assert station.step(31) == 0


def test_a_job_that_comes_back_is_told_of_anew(station: Station) -> None:
    """One given back is, when it is due; one whose lease ran out is at once."""
    station.add(1)
    station.step()
    claimed = station.house.jobs.claim("w", station.house.clock.at, LEASE)
    assert claimed is not None
    now = station.house.clock.at
    assert station.house.jobs.release(claimed.lease, "later", now, now + timedelta(seconds=10))
    assert [station.step(9), station.step(2)] == [0, 1]
    assert station.claim() == 1
    assert [station.step(590), station.step(11)] == [0, 1]


def test_without_a_broker_jobs_wait_and_are_told_of_later(station: Station) -> None:
    """Nothing fails, nothing is forgotten."""
    station.broker.down = True
    station.add(2)
    assert [station.step(), station.step(31)] == [0, 0]
    station.broker.down = False
    assert station.step(31) == 2
    assert sorted(hint.job_id for hint in station.broker.held) == [1, 2]


def test_the_time_of_a_wrong_clock_holds_nothing_up(station: Station) -> None:
    """A message dated in a time to come, and lost, is sent again."""
    station.add(1)
    station.house.clock.at += timedelta(days=2)
    station.step()
    station.broker.held.clear()
    station.house.clock.at = NOW
    assert station.step(1) == 1


def test_messages_go_by_what_a_job_wants(station: Station) -> None:
    """Each to the queue of its resource; lost ones of one are not hidden by those of another."""
    station.add(1)
    station.add(2, Handling(resource=Resource.BIG_MEMORY))
    station.step()
    assert [hint.resource for hint in station.broker.held] == [Resource.CPU, *[Resource.BIG_MEMORY] * 2]
    station.broker.held = [hint for hint in station.broker.held if hint.resource is not Resource.CPU] * 2
    assert station.step(31) == 1
    assert station.broker.held[-1].resource is Resource.CPU


def test_what_goes_out_at_once_is_bounded(station: Station) -> None:
    """A backlog goes out in parts."""
    station.add(BATCH + 1)
    assert [station.step(), station.step(), station.step()] == [BATCH, 1, 0]


def test_a_process_that_could_not_begin_tries_again() -> None:
    """Celery hides what its receiver raised: the first message fails rather than be swallowed, the next works."""
    faults = [OSError("models away"), OSError("models away")]

    def begin() -> Callable[[Resource], bool]:
        if faults:
            raise faults.pop()
        return lambda resource: resource is Resource.CPU

    hands = Hands(begin=begin, lost=lambda *_: None)
    for what in (hands.start, lambda: hands.take(Resource.CPU)):
        with pytest.raises(OSError, match="models away"):
            what()
    assert hands.take(Resource.CPU)


def test_a_ledger_that_is_away_keeps_no_message_in_hand(caplog: pytest.LogCaptureFixture) -> None:
    """That a process ended at its job is told where it can be; where not, Celery goes on to settle the message."""
    told: list[tuple[int, str]] = []

    def lost(process: int, how: str) -> None:
        told.append((process, how))
        raise RetryableError("the ledger is away")

    hands = Hands(begin=lambda: bool, lost=lost)
    hands.ended(7, WorkerLostError("Worker exited prematurely: signal 9 (SIGKILL) Job: 3."))
    hands.ended(8, TimeLimitExceeded(60))
    hands.ended(9, ValueError("of the job itself"))
    assert told == [(7, "signal 9 (SIGKILL)"), (8, "the hard time limit")]
    assert "process 7 ended at its job" in caplog.text


def test_what_seems_lost() -> None:
    """What the broker lacks; never less than nothing."""
    assert [lost(3, 1), lost(3, 3), lost(1, 5)] == [2, 0, 0]
