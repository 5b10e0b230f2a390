"""A pause with real processes: set by one command, heeded by the daemon that starts after it, ended by another."""

from pathlib import Path

import pytest

from daemon.bootstrap import House
from daemon.config import load
from demo.ports import free_port
from dicom_fixtures.studies import StudyRequest, make_petct
from tests.daemons import init, overread, serving
from tests.peers import echoscu, storescp, storescu, wait_until

pytestmark = pytest.mark.peers


def states(config: Path) -> list[tuple[str, int]]:
    """Return state and attempts of each job, oldest first."""
    house = House(load(config))
    try:
        return [(job.state, job.attempts) for job in reversed(house.queries.jobs())]
    finally:
        house.engine.dispose()


def test_a_paused_daemon_takes_and_keeps_and_reads_later(tmp_path: Path) -> None:
    """Reception paused rejects for now; jobs paused, studies come and wait unclaimed; after `resume` they are read."""
    folders = [make_petct(StudyRequest(seed=seed), tmp_path / str(seed)).folder for seed in (7, 8)]
    port = free_port()
    with storescp(tmp_path / "pacs") as archive:
        config = init(tmp_path / "site", port, archive)

        def run(*arguments: str) -> None:
            told = overread(*arguments, "--config", str(config))
            assert told.returncode == 0, told.stderr

        run("pause", "--reception")
        with serving(tmp_path / "site", port, {"OVERREAD_INFERENCE__PASSES": "2"}):
            refused = echoscu(port, calling_ae="STORESCU")
            assert "Temporary Congestion" in refused.stdout + refused.stderr
            run("resume")
            run("pause")
            for number, folder in enumerate(folders, 1):
                assert storescu(port, [folder]).returncode == 0
                # the worker assembles and claims in turns: who made the second job would have claimed the first
                wait_until(lambda n=number: len(states(config)) == n, 90, "the study to be assembled")  # type: ignore[misc]
            assert states(config) == [("SCHEDULED", 0)] * 2
            run("resume")
            wait_until(lambda: states(config) == [("COMPLETED", 1)] * 2, 180, "both studies to be read")
