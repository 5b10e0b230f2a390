"""One clock for each destination that is not reached, so that a dead one is probed and not hammered."""

import logging
import random

from daemon.clock import Clock
from daemon.domain.delivery import OPEN_AFTER, Circuit, RetryPolicy
from daemon.services.ports import Circuits

LOGGER = logging.getLogger(__name__)


class Breaker:
    """Keeps circuits: a failure puts the next try off for all that goes there, the first answer ends it."""

    def __init__(self, circuits: Circuits, retry: RetryPolicy, clock: Clock) -> None:
        self._circuits = circuits
        self._retry = retry
        self._clock = clock

    def get(self, name: str) -> Circuit | None:
        """Return a destination's circuit; None where all is well."""
        return self._circuits.get(name)

    def waits(self, circuit: Circuit | None) -> bool:
        """Return whether it is too early to try again."""
        return circuit is not None and self._clock.now() < circuit.next_at

    def answered(self, name: str) -> None:
        """Note that destination `name` was reached."""
        circuit = self._circuits.get(name)
        if circuit:
            self._circuits.close(name)
            LOGGER.info("destination %s is reached again, after %d failures", name, circuit.failures)

    def failed(self, name: str, reason: str) -> None:
        """Note that destination `name` was not reached."""
        now, old = self._clock.now(), self._circuits.get(name)
        failures = old.failures + 1 if old else 1
        # Jitter spreads retries; nothing secret hangs on it.
        wait = self._retry.wait(failures, random.random())  # noqa: S311
        since = old.since if old else now
        self._circuits.keep(
            Circuit(destination=name, failures=failures, since=since, next_at=now + wait, reason=reason)
        )
        if failures == OPEN_AFTER:
            LOGGER.error("destination %s is not reached, only probed from now on: %s", name, reason)
