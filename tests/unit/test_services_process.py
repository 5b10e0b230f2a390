"""A worker's lease while it works."""

import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from daemon.domain.handling import Resource
from daemon.domain.job import JobInput, Lease
from daemon.domain.model_bundle import BundleRef
from daemon.domain.reasons import Reason
from daemon.domain.work import Claimed
from daemon.errors import RetryableError
from daemon.ledger.engine import connect
from daemon.ledger.files import Files
from daemon.ledger.jobs import Jobs
from daemon.ledger.migrate import upgrade
from daemon.services.process import Process, Stores, WorkRules
from daemon.spool.store import Spool
from tests.instances import NOW


class FlakyJobs:
    """A ledger whose first renewal meets a lock; one job is due."""

    def __init__(self) -> None:
        self.renewed = threading.Event()
        self.failures = 0
        self.reasons: list[str] = []
        self.away = False

    def claim(self, worker: str, at: datetime, lease_for: timedelta, resource: Resource | None = None) -> Claimed:
        """Return the job."""
        del resource
        return Claimed(
            lease=Lease(job_id=1, fence=1, worker=worker, expires_at=at + lease_for),
            key="k",
            input=JobInput(study_instance_uid="1.2", series={}, instance_digests=()),
            bundle=BundleRef(name="brain-mri", version="1", digest="d"),
            created_at=NOW,
            attempts=1,
            predecessors=(),
        )

    def renew(self, lease: Lease, until: datetime) -> bool:
        """Fail once, then note that it was asked again."""
        del lease, until
        if not self.failures:
            self.failures += 1
            raise OSError("database is locked")
        self.renewed.set()
        return True

    def fail(self, lease: Lease, reason: str, detail: str, at: datetime) -> bool:
        """Keep the reason, unless nothing can be written now."""
        del lease, detail, at
        if self.away:
            raise RetryableError("the ledger does not answer")
        self.reasons.append(reason)
        return True


def worker(
    folder: Path,
    jobs: FlakyJobs,
    bundles: Callable[[], tuple[Any, ...]],
    limit: timedelta = timedelta(minutes=1),
    overdue: Callable[[], None] = lambda: None,
) -> Process:
    """Return a worker on `jobs` whose reader gives `bundles`; its lease is short."""
    engine = connect(f"sqlite:///{folder / 'ledger.db'}")
    upgrade(engine)
    stores = Stores(jobs=cast("Jobs", jobs), files=Files(engine), spool=Spool(folder / "spool", headroom=0))
    rules = WorkRules(
        worker="w",
        destinations=tuple,
        software_version="0",
        lease=timedelta(seconds=0.06),
        limit=limit,
        overdue=overdue,
    )
    return Process(stores, cast("Any", SimpleNamespace(bundles=bundles)), SimpleNamespace(now=lambda: NOW), rules)


def test_a_ledger_that_is_locked_for_a_moment_does_not_cost_the_lease(tmp_path: Path) -> None:
    """A renewal that fails is tried again while the job is still worked on."""
    jobs = FlakyJobs()

    def bundles() -> tuple[Any, ...]:
        assert jobs.renewed.wait(20)
        return ()

    assert worker(tmp_path, jobs, bundles).step()
    assert (jobs.failures, jobs.reasons) == (1, [Reason.MODEL])


def test_a_job_that_hangs_has_failed_before_its_process_is_ended(tmp_path: Path) -> None:
    """After the time limit the failure is in the ledger first; then the process, which nothing else can stop, goes."""
    jobs, ended = FlakyJobs(), threading.Event()
    seen: list[list[str]] = []

    def overdue() -> None:
        seen.append(list(jobs.reasons))
        ended.set()

    def bundles() -> tuple[Any, ...]:
        assert ended.wait(20)
        return ()

    assert worker(tmp_path, jobs, bundles, limit=timedelta(seconds=0.2), overdue=overdue).step()
    assert seen == [[Reason.TIME_LIMIT]]


def test_a_job_that_hangs_ends_its_worker_though_the_ledger_is_away(tmp_path: Path) -> None:
    """Where the failure cannot be written the process is ended all the same, or nobody would ever end it."""
    jobs, ended = FlakyJobs(), threading.Event()
    jobs.away = True

    def bundles() -> tuple[Any, ...]:
        assert ended.wait(20)
        jobs.away = False
        return ()

    assert worker(tmp_path, jobs, bundles, limit=timedelta(seconds=0.2), overdue=ended.set).step()
    assert jobs.reasons == [Reason.MODEL]


def test_a_study_beyond_the_memory_fails_with_that_reason(tmp_path: Path) -> None:
    """A MemoryError ends this job, not the worker."""
    jobs = FlakyJobs()

    def bundles() -> tuple[Any, ...]:
        raise MemoryError

    assert worker(tmp_path, jobs, bundles).step()
    assert jobs.reasons == [Reason.TOO_LARGE]


def test_a_model_that_runs_out_of_memory_says_so_and_goes_on() -> None:
    """ONNX Runtime raises errors of its own; they are a MemoryError here, and the model reads what is smaller."""
    program = """
import sys, numpy as np, daemon.runtime as runtime
from daemon.config import bundled_models
from daemon.inference.bundle import installed
from daemon.inference.session import Model
model = Model(installed(bundled_models(), ())[0], threads=1)
channels = model.manifest.recipe.neighbours * len(model.manifest.recipe.channels)
small = np.zeros((1, channels, 64, 64), np.float32)
used = int(next(l for l in open("/proc/self/status") if l.startswith("VmSize")).split()[1]) >> 10
large = np.zeros((8, channels, 512, 512), np.float32)
runtime.cap_memory(used + (large.nbytes >> 20) + int(sys.argv[1]))
try:
    model.members[0].encode(large)
except MemoryError:
    print(len(model.members[0].encode(small)))
"""
    for megabytes in (80, 160):
        ended = subprocess.run(
            [sys.executable, "-c", program, str(megabytes)], capture_output=True, text=True, check=False
        )
        assert (ended.returncode, ended.stdout) == (0, "5\n"), ended.stderr


def test_capped_memory_is_refused_as_memory() -> None:
    """A process with a cap gets a MemoryError; one without gets its memory."""
    program = "import sys, daemon.runtime as r; r.cap_memory(int(sys.argv[1])); bytes(1 << 31)"
    for megabytes, code in ((1024, 1), (0, 0)):
        ended = subprocess.run([sys.executable, "-c", program, str(megabytes)], capture_output=True, check=False)
        assert ended.returncode == code
        assert (b"MemoryError" in ended.stderr) == bool(code)
