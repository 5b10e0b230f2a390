"""A worker's lease while it works."""

import threading
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from daemon.domain.job import JobInput, Lease
from daemon.domain.model_bundle import BundleRef
from daemon.domain.reasons import Reason
from daemon.domain.work import Claimed
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
        self.reason = ""

    def claim(self, worker: str, at: datetime, lease_for: timedelta) -> Claimed:
        """Return the job."""
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
        """Keep the reason."""
        del lease, detail, at
        self.reason = reason
        return True


def test_a_ledger_that_is_locked_for_a_moment_does_not_cost_the_lease(tmp_path: Path) -> None:
    """A renewal that fails is tried again while the job is still worked on."""
    engine = connect(f"sqlite:///{tmp_path / 'ledger.db'}")
    upgrade(engine)
    jobs = FlakyJobs()
    stores = Stores(jobs=cast("Jobs", jobs), files=Files(engine), spool=Spool(tmp_path / "spool", headroom=0))

    def bundles() -> tuple[Any, ...]:
        assert jobs.renewed.wait(20)
        return ()

    reader = cast("Any", SimpleNamespace(bundles=bundles))
    rules = WorkRules(worker="w", destinations=tuple, software_version="0", lease=timedelta(seconds=0.06))
    assert Process(stores, reader, SimpleNamespace(now=lambda: NOW), rules).step()
    assert (jobs.failures, jobs.reason) == (1, Reason.MODEL.value)
    engine.dispose()
