"""SIGTERM with real processes: what is under way is finished, or given back, and never lost."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from daemon.bootstrap import House
from daemon.config import load
from daemon.ledger.queries import JobView
from demo.ports import free_port, listens
from dicom_fixtures.studies import StudyRequest, StudyTruth, make_petct
from tests.daemons import init, serving
from tests.dicom_files import ct_file
from tests.peers import storescp, storescu, wait_until

pytestmark = pytest.mark.peers
PUSHED = 300


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyTruth:
    """One PET/CT."""
    return make_petct(StudyRequest(seed=7), tmp_path_factory.mktemp("study"))


def jobs(config: Path) -> list[JobView]:
    """Return the jobs in the ledger."""
    house = House(load(config))
    try:
        return house.queries.jobs()
    finally:
        house.engine.dispose()


def kept(config: Path) -> int:
    """Return how many files are in the spool."""
    return len(list((config.parent / "data/spool/objects").glob("*/*")))


def test_an_association_under_way_is_served_to_its_end(tmp_path: Path) -> None:
    """A push that was begun before SIGTERM is acknowledged whole; nobody new gets in meanwhile."""
    port = free_port()
    (tmp_path / "push").mkdir()
    for number in range(PUSHED):
        ct_file(tmp_path / f"push/{number}.dcm", f"1.2.3.{number}", size=256)
    with storescp(tmp_path / "pacs") as archive, ThreadPoolExecutor(1) as pool:
        config = init(tmp_path / "site", port, archive)
        with serving(tmp_path / "site", port, {"OVERREAD_LISTENER__STOP_SECONDS": "100"}) as daemon:
            push = pool.submit(storescu, port, [tmp_path / "push"], quiet=True)
            wait_until(lambda: kept(config) > 5, 60, "the push to begin")
            daemon.process.terminate()
            assert kept(config) < PUSHED, "the push was over before the daemon was told to stop"
            wait_until(lambda: not listens(port), 30, "the port to close")
            assert push.result(120).returncode == 0
            assert daemon.process.wait(120) == 0
    assert kept(config) == PUSHED
    assert "listener stopped, 0 associations left over" in (tmp_path / "site/serve.log").read_text()


def test_a_job_under_way_is_finished(tmp_path: Path, study: StudyTruth) -> None:
    """Told to stop in the middle of a job, the worker completes it in the time it has."""
    port = free_port()
    with storescp(tmp_path / "pacs") as archive:
        config = init(tmp_path / "site", port, archive)
        with serving(
            tmp_path / "site", port, {"OVERREAD_INFERENCE__PASSES": "60", "OVERREAD_INFERENCE__STOP_SECONDS": "200"}
        ) as daemon:
            assert storescu(port, [study.folder]).returncode == 0
            wait_until(lambda: [job.state for job in jobs(config)] == ["IN PROGRESS"], 120, "the job to begin")
            daemon.process.terminate()
            assert daemon.process.wait(250) == 0
    assert [(job.state, job.attempts) for job in jobs(config)] == [("COMPLETED", 1)]


def test_a_job_that_takes_longer_is_given_back(tmp_path: Path, study: StudyTruth) -> None:
    """After its seconds the job is SCHEDULED again at once, no lease has to run out; the next start answers it."""
    port = free_port()
    long = {"OVERREAD_INFERENCE__PASSES": "2000", "OVERREAD_INFERENCE__STOP_SECONDS": "0.5"}
    with storescp(tmp_path / "pacs") as archive:
        config = init(tmp_path / "site", port, archive, lease_seconds="600")
        with serving(tmp_path / "site", port, long) as daemon:
            assert storescu(port, [study.folder]).returncode == 0
            wait_until(lambda: [job.state for job in jobs(config)] == ["IN PROGRESS"], 120, "the job to begin")
            daemon.process.terminate()
            assert daemon.process.wait(120) == 0
        assert [(job.state, job.detail) for job in jobs(config)] == [("SCHEDULED", "its worker was stopped")]
        with serving(tmp_path / "site", port, {"OVERREAD_INFERENCE__PASSES": "2"}):
            wait_until(lambda: [job.state for job in jobs(config)] == ["COMPLETED"], 120, "the job to be done")
    assert "the job was given back" in (config.parent / "data/audit.log").read_text()
