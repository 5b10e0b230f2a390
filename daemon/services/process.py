"""Process: a job under lease to committed outputs, or to a reason that is kept."""

import logging
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

from daemon.clock import Clock
from daemon.domain.delivery import Destination, wanted
from daemon.domain.finding import Answer
from daemon.domain.handling import Resource
from daemon.domain.job import ATTEMPTS, PAUSE, Lease
from daemon.domain.model_bundle import InstalledBundle
from daemon.domain.output import Output
from daemon.domain.reasons import Reason
from daemon.domain.second import beside
from daemon.domain.work import Claimed, Result
from daemon.errors import RetryableError, UnprocessableError
from daemon.results.make import Made
from daemon.services.analyse import Task, analyse
from daemon.services.faults import Point, reach
from daemon.services.inputs import by_role, instances_of
from daemon.services.ports import Files, Jobs, Reader, Spool
from daemon.services.refuse import RefusedTask, refuse

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class WorkRules:
    """How jobs are worked on; `destinations` are asked for anew at every job.

    `attempts` also counts those that ended with the death of the worker, which may be no fault of the job. A job that
    takes longer than `limit` has failed; what hangs cannot be told to stop, so `overdue` then ends the process. Bundles
    in `shadows` are to read what was answered, later.
    """

    worker: str
    destinations: Callable[[], tuple[Destination, ...]]
    software_version: str
    lease: timedelta = timedelta(minutes=2)
    attempts: int = ATTEMPTS
    pause: timedelta = PAUSE
    research_use: bool = True
    limit: timedelta = timedelta(minutes=30)
    overdue: Callable[[], None] = lambda: None
    shadows: Sequence[InstalledBundle] = ()


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

    def step(self, resource: Resource | None = None) -> bool:
        """Work on one job, of whatever or of one `resource`; False where none is due."""
        claimed = self._stores.jobs.claim(self._rules.worker, self._clock.now(), self._rules.lease, resource)
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
        destinations = self._rules.destinations()
        if claimed.refusal is not None:
            kept = self._kept((refuse(self._refused(claimed, claimed.refusal)),))
            self._complete(claimed, Result(findings=None, outputs=kept, destinations=destinations, seconds={}))
            return
        analysis = analyse(replace(self._task(claimed), kinds=wanted(destinations)), self._reader)
        result = Result(
            findings=analysis.reading.findings,
            outputs=self._kept(analysis.made),
            destinations=destinations,
            seconds=analysis.seconds,
            shadows=beside(self._rules.shadows, claimed.input.series, claimed.bundle),
        )
        self._complete(claimed, result)

    def _kept(self, made: Sequence[Made]) -> tuple[Output, ...]:
        return tuple(one.output(*self._stores.spool.put(one.content)) for one in made)

    def _complete(self, claimed: Claimed, result: Result) -> None:
        reach(Point.OUTPUTS_KEPT)
        held = self._stores.jobs.complete(claimed.lease, result, self._clock.now())
        reach(Point.JOB_COMPLETED)
        answer = (result.findings.answer if result.findings else Answer.NOT_PROCESSED).value
        LOGGER.info(
            "job %d %s", claimed.lease.job_id, f"completed: {answer}" if held else "lost its lease; not written"
        )

    def _task(self, claimed: Claimed) -> Task:
        mend = f"check its disk, have the study sent again, then `overread jobs retry {claimed.lease.job_id}`"
        instances = instances_of(claimed.input, self._stores.files, self._stores.spool, mend)
        return Task(
            job_key=claimed.key,
            study_instance_uid=claimed.input.study_instance_uid,
            created_at=claimed.created_at,
            paths=by_role(claimed.input, instances, self._stores.spool),
            bundle=self._bundle(claimed),
            predecessors=claimed.predecessors,
            revision=claimed.revision,
            unread=claimed.input.unread,
            research_use=self._rules.research_use,
            software_version=self._rules.software_version,
        )

    def _refused(self, claimed: Claimed, reason: Reason) -> RefusedTask:
        """Return what a report of a refusal needs; any instance that is whole says whose study it is."""
        found = self._stores.files.instances(claimed.input.instance_digests)
        received = sorted(found, key=lambda i: (i.series_instance_uid, i.sop_instance_uid))
        sample = next((i for i in received if self._stores.spool.sound(i.digest)), None)
        if sample is None and self._stores.spool.late:
            raise RetryableError(f"none of {len(received)} instances is in the bucket yet, or all are damaged there")
        if sample is None:
            raise UnprocessableError(
                Reason.DAMAGED,
                f"all {len(received)} instances are gone from the spool or damaged; check its disk, have the study "
                f"sent again, then `overread jobs retry {claimed.lease.job_id}`",
            )
        return RefusedTask(
            claimed=claimed,
            reason=reason,
            received=received,
            sample=self._stores.spool.path(sample.digest),
            software_version=self._rules.software_version,
            research_use=self._rules.research_use,
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
            late = f"not done after {minutes:g} minutes; see inference.job_minutes, then retry"
            try:
                self._fail(claimed, Reason.TIME_LIMIT, late)
            except Exception:
                # What hangs must end whether or not the ledger hears why: nobody else would end it.
                LOGGER.exception("the failure of job %d could not be noted", claimed.lease.job_id)
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
