"""Process: a job under lease to committed outputs, or to a reason that is kept."""

import logging
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from daemon.clock import Clock
from daemon.domain.job import Lease
from daemon.domain.model_bundle import InstalledBundle
from daemon.domain.reasons import Reason
from daemon.domain.work import Claimed, Result
from daemon.errors import RetryableError, UnprocessableError
from daemon.services.analyse import Task, analyse
from daemon.services.faults import Point, reach
from daemon.services.ports import Files, Jobs, Reader, Spool

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class WorkRules:
    """How jobs are worked on; `destinations` are asked for anew at every job.

    `attempts` also counts those that ended with the death of the worker, which may be no fault of the job. A job that
    takes longer than `limit` has failed; what hangs cannot be told to stop, so `overdue` then ends the process.
    """

    worker: str
    destinations: Callable[[], tuple[str, ...]]
    software_version: str
    lease: timedelta = timedelta(minutes=2)
    attempts: int = 50
    pause: timedelta = timedelta(seconds=30)
    research_use: bool = True
    limit: timedelta = timedelta(minutes=30)
    overdue: Callable[[], None] = lambda: None


@dataclass(frozen=True, kw_only=True)
class Stores:
    """Where a worker reads and writes."""

    jobs: Jobs
    files: Files
    spool: Spool


class Process:
    """A worker's loop body."""

    def __init__(self, stores: Stores, reader: Reader, clock: Clock, rules: WorkRules) -> None:
        self._stores = stores
        self._reader = reader
        self._clock = clock
        self._rules = rules
        self._held: Claimed | None = None

    def step(self) -> bool:
        """Work on one job; False where none is due."""
        claimed = self._stores.jobs.claim(self._rules.worker, self._clock.now(), self._rules.lease)
        if claimed is None:
            return False
        reach(Point.JOB_CLAIMED)
        LOGGER.info("job %d claimed, attempt %d", claimed.lease.job_id, claimed.attempts)
        self._held = claimed
        with self._renewed(claimed):
            self._work(claimed)
        self._held = None
        return True

    def give_back(self) -> bool:
        """Release the job in hand for another worker to take at once; False where there is none. From another thread.

        What this worker still writes of it is refused by its fence.
        """
        held, now = self._held, self._clock.now()
        return held is not None and self._stores.jobs.release(held.lease, "its worker was stopped", now, now)

    def _work(self, claimed: Claimed) -> None:
        if claimed.attempts > self._rules.attempts:
            self._fail(claimed, Reason.TOO_MANY_ATTEMPTS.value, f"gave up after {self._rules.attempts} attempts")
            return
        try:
            self._finish(claimed)
        except UnprocessableError as error:
            self._fail(claimed, error.reason, str(error))
        except MemoryError:
            self._fail(claimed, Reason.TOO_LARGE, "out of memory; raise inference.memory_mb, then retry the job")
        except (RetryableError, OSError) as error:
            now = self._clock.now()
            again = now + self._rules.pause * claimed.attempts
            self._stores.jobs.release(claimed.lease, str(error), now, again)
        except Exception as error:
            # The edge of the loop: an unknown error ends this job, is kept with it, and the worker goes on.
            LOGGER.exception("job %d failed unexpectedly", claimed.lease.job_id)
            self._fail(claimed, Reason.UNKNOWN.value, f"{type(error).__name__}; see the worker's log")

    def _finish(self, claimed: Claimed) -> None:
        analysis = analyse(self._task(claimed), self._reader)
        outputs = tuple(made.output(*self._stores.spool.put(made.content)) for made in analysis.made)
        reach(Point.OUTPUTS_KEPT)
        result = Result(
            findings=analysis.reading.findings,
            outputs=outputs,
            destinations=self._rules.destinations(),
            seconds=analysis.seconds,
        )
        held = self._stores.jobs.complete(claimed.lease, result, self._clock.now())
        reach(Point.JOB_COMPLETED)
        answer = analysis.reading.findings.answer.value
        LOGGER.info(
            "job %d %s", claimed.lease.job_id, f"completed: {answer}" if held else "lost its lease; not written"
        )

    def _task(self, claimed: Claimed) -> Task:
        by_series = {uid: role for role, uid in claimed.input.series.items()}
        instances = self._stores.files.instances(claimed.input.instance_digests)
        damaged = sum(not self._stores.spool.sound(i.digest) for i in instances)
        if damaged:
            raise UnprocessableError(
                Reason.DAMAGED,
                f"{damaged} of {len(instances)} instances are gone from the spool or damaged; check its disk, have the "
                f"study sent again, then `overread jobs retry {claimed.lease.job_id}`",
            )
        paths = {
            role: [self._stores.spool.path(i.digest) for i in instances if by_series[i.series_instance_uid] == role]
            for role in claimed.input.series
        }
        return Task(
            job_key=claimed.key,
            study_instance_uid=claimed.input.study_instance_uid,
            created_at=claimed.created_at,
            paths=paths,
            bundle=self._bundle(claimed),
            predecessors=claimed.predecessors,
            revision=claimed.revision,
            research_use=self._rules.research_use,
            software_version=self._rules.software_version,
        )

    def _bundle(self, claimed: Claimed) -> InstalledBundle:
        for bundle in self._reader.bundles():
            if bundle.ref == claimed.bundle:
                return bundle
        named = f"{claimed.bundle.name} {claimed.bundle.version}"
        raise UnprocessableError(Reason.MODEL, f"bundle {named} is not installed; install it and retry the job")

    def _fail(self, claimed: Claimed, reason: str, detail: str) -> None:
        LOGGER.warning("job %d failed: %s", claimed.lease.job_id, reason)
        self._stores.jobs.fail(claimed.lease, reason, detail, self._clock.now())

    @contextmanager
    def _renewed(self, claimed: Claimed) -> Iterator[None]:
        """Keep the lease while the body runs, and end what runs for too long."""
        done, turns = threading.Event(), math.ceil(3 * self._rules.limit / self._rules.lease)

        def renew() -> None:
            for _ in range(turns):
                if done.wait(self._rules.lease.total_seconds() / 3):
                    return
                self._renew(claimed.lease)
            minutes = self._rules.limit.total_seconds() / 60
            self._fail(
                claimed, Reason.TIME_LIMIT, f"not done after {minutes:g} minutes; see inference.job_minutes, then retry"
            )
            self._rules.overdue()

        thread = threading.Thread(target=renew, name=f"lease-{claimed.lease.job_id}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _renew(self, lease: Lease) -> None:
        try:
            self._stores.jobs.renew(lease, self._clock.now() + self._rules.lease)
        except Exception:
            # A ledger that is locked or gone for a moment must not cost the lease: there are two more turns.
            LOGGER.exception("the lease of job %d could not be renewed; tried again soon", lease.job_id)
