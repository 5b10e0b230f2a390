"""Workers that a broker tells of jobs: a real RabbitMQ and a real Redis, whole daemons, DCMTK and Orthanc."""

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from daemon.bootstrap import House
from daemon.config import load
from daemon.domain.handling import Hint, Resource
from daemon.errors import RetryableError
from daemon.executors.messages import Messages, Place, application
from daemon.ledger.queries import JobView
from daemon.web.console import Console
from daemon.web.metrics import exposition
from demo.ports import free_port
from dicom_fixtures.studies import StudyRequest, StudyTruth, make_petct
from tests.brokers import Broker, redis
from tests.daemons import init, overread, serving
from tests.peers import Peer, storescp, storescu, wait_until

pytestmark = pytest.mark.peers
SLOW = {"OVERREAD_INFERENCE__PASSES": "200"}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A Redis, which starts at once."""
    with redis(tmp_path_factory.mktemp("redis") / "node") as made:
        yield made


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyTruth:
    """One PET/CT."""
    return make_petct(StudyRequest(seed=7), tmp_path_factory.mktemp("study"))


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Peer]:
    """A node that stores."""
    with storescp(tmp_path / "pacs") as made:
        yield made


def by_messages(folder: Path, archive: Peer, url: str, **keys: str) -> tuple[Path, int]:
    """Write a configuration whose workers a broker tells of jobs; return it and the listener's port."""
    port = free_port()
    celery = {"executor": '"celery"', "broker_url": f'"{url}"', "republish_seconds": "3", **keys}
    return init(folder, port, archive, **celery), port


def jobs(config: Path) -> list[JobView]:
    """Return the jobs in the ledger."""
    house = House(load(config))
    try:
        return house.queries.jobs()
    finally:
        house.engine.dispose()


def test_without_a_broker_doctor_and_status_say_so(tmp_path: Path, broker: Broker, archive: Peer) -> None:
    """What to do, too; with one they tell what waits there, and so do the console's metrics."""
    for url, well in ((f"redis://127.0.0.1:{free_port()}/0", False), (broker.url, True)):
        config, _ = by_messages(tmp_path / f"site{well}", archive, url)
        checks = {row["check"]: row for row in json.loads(overread("doctor", "--config", str(config), "--json").stdout)}
        assert checks["broker"]["ok"] is well, checks["broker"]
        status = json.loads(overread("status", "--config", str(config), "--json").stdout)
        assert any("start it, or correct queue.broker_url" in care for care in status["cares"]) is not well
        metrics = measured(config)
        assert metrics["overread_broker_up", ""] == float(well)
        assert metrics.get(("overread_queue_messages", "cpu")) == (0.0 if well else None)
        assert metrics["overread_messages_total", "first"] == 0.0


def measured(config: Path) -> Mapping[tuple[str, str], float]:
    """Return the console's figures by name and label."""
    house = House(load(config))
    text = exposition(Console.of(house)).decode()
    house.engine.dispose()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(s.name, s.labels.get("queue", s.labels.get("kind", ""))): s.value for s in samples}


def test_told_to_stop_a_job_is_given_back(tmp_path: Path, broker: Broker, study: StudyTruth, archive: Peer) -> None:
    """After `inference.stop_seconds` another worker may take it at once; the daemon ends in good time."""
    config, port = by_messages(tmp_path / "site", archive, broker.url, stop_seconds="1")
    with serving(config.parent, port, SLOW) as daemon:
        assert storescu(port, [study.folder]).returncode == 0
        wait_until(lambda: [job.state for job in jobs(config)] == ["IN PROGRESS"], 120, "the job to be taken")
        daemon.process.terminate()
        daemon.process.wait(timeout=60)
    (job,) = jobs(config)
    assert (job.state, job.detail) == ("SCHEDULED", "its worker was stopped")


def test_a_job_that_takes_too_long_has_failed(tmp_path: Path, broker: Broker, study: StudyTruth, archive: Peer) -> None:
    """With `time-limit`, and its process has ended; the next try has one of its own."""
    keys = {"job_minutes": "0.005"}
    config, port = by_messages(tmp_path / "site", archive, broker.url, **keys)
    with serving(config.parent, port, SLOW):
        assert storescu(port, [study.folder]).returncode == 0
        for attempt in range(2):
            wait_until(lambda: [job.state for job in jobs(config)] == ["FAILED"], 180, "the job to fail")
            assert [job.reason for job in jobs(config)] == ["time-limit"]
            assert attempt or overread("jobs", "retry", "1", "--config", str(config)).returncode == 0
    house = House(load(config))
    workers = {event.detail for event in house.queries.events(1) if event.new == "IN PROGRESS"}
    house.engine.dispose()
    assert len(workers) == 2


def test_no_word_of_the_broker_s_address_is_told(tmp_path: Path) -> None:
    """What cannot be reached is named by cause and mend; an address may hold a password."""
    del tmp_path
    place = Place(url=f"redis://:secret@127.0.0.1:{free_port()}/0", longest=timedelta(minutes=1))
    with pytest.raises(RetryableError, match="Connection refused") as found:
        Messages(application(place)).publish([Hint(job_id=1, resource=Resource.CPU)])
    assert "secret" not in str(found.value)
