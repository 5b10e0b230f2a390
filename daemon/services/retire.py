"""Retire: free the spool of what every destination vouches for."""

import logging
from dataclasses import dataclass
from datetime import timedelta

from daemon.clock import Clock
from daemon.services.faults import Point, reach
from daemon.services.ports import Files, Spool

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RetentionRules:
    """How long confirmed studies stay; on a full disk, how long at least."""

    age: timedelta = timedelta(days=7)
    pressed_age: timedelta = timedelta(hours=1)


class Retire:
    """Frees what may go; what is not confirmed stays, even on a full disk."""

    def __init__(self, files: Files, spool: Spool, clock: Clock, rules: RetentionRules) -> None:
        self._files = files
        self._spool = spool
        self._clock = clock
        self._rules = rules

    def step(self) -> int:
        """Free what is old enough; return how many files.

        The ledger is told first: a crash between leaves a file without need, which `reconcile` sweeps up. An instance
        that is sent again meanwhile stays, or its sender is told to send it once more (`receive`).
        """
        age = min(self._rules.age, self._rules.pressed_age) if self._spool.full() else self._rules.age
        digests = self._files.release(self._clock.now() - age)
        if digests:
            reach(Point.FREED_RECORDED)
            self._files.while_free(digests, self._spool.free)
            LOGGER.info("freed %d files of confirmed studies", len(digests))
        return len(digests)
