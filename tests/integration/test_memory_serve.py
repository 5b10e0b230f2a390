"""Memory runs out under a running daemon: one job has failed and says why, everything else is answered."""

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian

from demo.ports import free_port
from dicom_fixtures.studies import StudyRequest, StudyTruth, make_brain_mri, make_petct
from tests.daemons import Daemon, asked, counted, init, serving
from tests.peers import storescp, storescu, wait_until

pytestmark = pytest.mark.peers
SIDE = 4096
QUICK = {"OVERREAD_INFERENCE__PASSES": "60", "OVERREAD_INFERENCE__THREADS": "1"}


@dataclass(frozen=True)
class Job:
    """What the ledger says of one."""

    study: str
    state: str
    reason: str
    detail: str
    worker: str
    deaths: int
    finished_at: Any


def jobs(config: Path) -> list[Job]:
    """Return the jobs, oldest first."""
    query = "SELECT study_uid, state, reason, detail, worker, deaths, finished_at FROM jobs ORDER BY id"
    return [Job(*row) for row in asked(config, query)]


def workers(daemon: Daemon) -> list[int]:
    """Return the process id of the worker that runs now; none between its death and its next start."""
    found = []
    for part in psutil.Process(daemon.process.pid).children():
        with suppress(psutil.NoSuchProcess):  # a zombie too
            found += [part.pid] if "work" in part.cmdline() else []
    return found


def swollen(study: StudyTruth) -> Path:
    """Give every slice of a study `SIDE` rows and columns of zeros, deflated: small to send, gigabytes to read."""
    for path in (path for paths in study.series.values() for path in paths):
        dataset = dcmread(path)
        dataset.PixelSpacing = [float(v) * dataset.Rows / SIDE for v in dataset.PixelSpacing]
        dataset.Rows = dataset.Columns = SIDE
        dataset.PixelData = bytes(2 * SIDE * SIDE)
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        dataset.save_as(path, enforce_file_format=True)
    return study.folder


def test_a_study_beyond_a_worker_s_memory_costs_that_study_alone(tmp_path: Path) -> None:
    """With `inference.memory_mb` its job has failed with `too-large`; the same worker answers the next."""
    large = swollen(make_brain_mri(StudyRequest(seed=3), tmp_path / "large"))
    small = make_petct(StudyRequest(seed=7), tmp_path / "small").folder
    port = free_port()
    with storescp(tmp_path / "pacs") as archive:
        config = init(tmp_path / "site", port, archive, memory_mb="2048")
        with serving(tmp_path / "site", port, QUICK) as daemon:
            assert storescu(port, [large], "-xd").returncode == 0
            wait_until(lambda: [job.state for job in jobs(config)] == ["FAILED"], 180, "the large study to fail")
            before = workers(daemon)
            assert storescu(port, [small]).returncode == 0
            wait_until(lambda: counted(config, "jobs", "COMPLETED") == 1, 180, "the small study to be read")
            assert workers(daemon) == before != []
    failed, _ = jobs(config)
    assert (failed.reason, failed.deaths) == ("too-large", 0)
    assert "raise inference.memory_mb" in failed.detail


def test_a_job_that_takes_its_worker_with_it_ends_and_others_are_answered(tmp_path: Path) -> None:
    """SIGKILL at each attempt, as the kernel does when memory runs out: FAILED in the end, and nobody waited for it."""
    doomed = make_petct(StudyRequest(seed=7), tmp_path / "doomed")
    other = make_petct(StudyRequest(seed=8), tmp_path / "other")
    port = free_port()
    with storescp(tmp_path / "pacs") as archive:
        config = init(tmp_path / "site", port, archive, lease_seconds="20", worker_deaths="3")
        with serving(tmp_path / "site", port, QUICK) as daemon:
            wait_until(lambda: _goes_first(daemon), 240, "the worker to offer itself to the kernel")
            assert storescu(port, [doomed.folder]).returncode == 0
            for deaths in range(1, 4):
                _kill_the_worker_at(config, doomed.study_instance_uid, daemon)
                wait_until(lambda n=deaths: jobs(config)[0].deaths == n, 30, "the death to be counted")  # type: ignore[misc]
                if deaths == 1:
                    assert storescu(port, [other.folder]).returncode == 0
                    wait_until(lambda: len(jobs(config)) == 2, 240, "the other study to be assembled")
            wait_until(lambda: jobs(config)[0].state == "FAILED", 30, "the job to be given up")
            wait_until(lambda: jobs(config)[1].state == "COMPLETED", 120, "the other study to be read")
    failed, answered = jobs(config)
    assert answered.finished_at < failed.finished_at
    assert failed.reason == "too-many-attempts"
    assert failed.detail.startswith("3 workers ended at it, the last by signal 9 (Killed)")


def _goes_first(daemon: Daemon) -> bool:
    """Tell whether the kernel would end the worker before the rest."""
    parts = psutil.Process(daemon.process.pid).children()
    scores = {part.cmdline()[3]: int(Path(f"/proc/{part.pid}/oom_score_adj").read_text()) for part in parts}
    return scores.pop("work") > max(scores.values())


def _kill_the_worker_at(config: Path, study: str, daemon: Daemon) -> None:
    """Kill the worker once it has the study's job in hand."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        held = [job for job in jobs(config) if job.study == study and job.state == "IN PROGRESS"]
        for pid in workers(daemon) if held else []:
            if held[0].worker.endswith(f"-{pid}"):
                os.kill(pid, signal.SIGKILL)
                return
        time.sleep(0.02)
    pytest.fail("the job was never in a worker's hands")
