"""Losses: what becomes of the job of a worker that was killed, by the system for want of memory perhaps."""

import logging
import signal
from datetime import timedelta

from daemon.clock import Clock
from daemon.domain.reasons import Reason
from daemon.services.ports import Jobs

LOGGER = logging.getLogger(__name__)


class Losses:
    """Gives such a job back for later, `wait` longer each time, so that others go first; after `most` it has failed.

    A job that takes its worker with it would else be taken up again for ever, and before any other: it is the oldest.
    """

    def __init__(self, jobs: Jobs, clock: Clock, wait: timedelta, most: int) -> None:
        self._jobs = jobs
        self._clock = clock
        self._wait = wait
        self._most = most

    def worker_lost(self, worker: str, code: int) -> None:
        """Settle what `worker` had in hand; `code` is its exit code, or minus the signal that ended it."""
        self.settle(worker, f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit code {code}")

    def settle(self, worker: str, how: str) -> None:
        """Settle what `worker` had in hand, which ended by `how`."""
        now = self._clock.now()
        for lease, deaths in self._jobs.bereaved(worker):
            if deaths < self._most:
                self._jobs.release(lease, f"its worker ended by {how}", now, now + self._wait * deaths)
                continue
            LOGGER.warning("job %d failed: %d workers ended at it, the last by %s", lease.job_id, deaths, how)
            self._jobs.fail(
                lease,
                Reason.TOO_MANY_ATTEMPTS.value,
                f"{deaths} workers ended at it, the last by {how}; if memory ran out (see the kernel's log), set "
                f"inference.memory_mb or add memory, then `overread jobs retry {lease.job_id}`",
                now,
            )
