"""Dispatch: tell workers of jobs that are due, and again where a message seems lost. The ledger stays the truth."""

import logging
from dataclasses import dataclass
from datetime import timedelta

from daemon.clock import Clock
from daemon.domain.handling import Hint, Resource
from daemon.errors import RetryableError
from daemon.services.ports import Messages, Outbox

LOGGER = logging.getLogger(__name__)
# Messages at one time, first or again.
BATCH = 200


@dataclass(frozen=True, kw_only=True)
class DispatchRules:
    """A message that nobody came for within `patience` may be lost; it is looked that often, too."""

    patience: timedelta = timedelta(seconds=30)


def lost(waiting: int, held: int) -> int:
    """Return how many messages seem lost: `waiting` jobs were told of, and the broker holds `held` messages.

    Messages that are about nothing any more hide lost ones until workers have taken them, which takes no time.
    """
    return max(0, waiting - held)


class Dispatch:
    """A message says that there is a job and, for people, which. Whoever takes it asks the ledger for the most urgent.

    So a message that comes twice finds nothing to do, one that comes late does no harm, one that is lost costs time.
    """

    def __init__(self, outbox: Outbox, messages: Messages, clock: Clock, rules: DispatchRules) -> None:
        self._outbox = outbox
        self._messages = messages
        self._clock = clock
        self._rules = rules
        self._looked = clock.now()
        self._down = False

    def step(self) -> int:
        """Tell of what is due, then of what seems lost; return how many messages went out. Without a broker: none."""
        try:
            sent = self._tell(self._outbox.untold(self._clock.now(), BATCH), again=False) + self._look()
        except RetryableError as error:
            if not self._down:
                LOGGER.warning("the broker is not reached, jobs wait until it is: %s", error)
            self._down = True
            return 0
        if self._down and sent:
            self._down = False
            LOGGER.info("the broker is reached again")
        return sent

    def _look(self) -> int:
        now = self._clock.now()
        if timedelta(0) <= now - self._looked < self._rules.patience:
            return 0
        self._looked = now
        waiting = self._outbox.waiting(now)
        if not waiting:
            return 0
        held = self._messages.depths()
        return sum(self._again(resource, lost(count, held[resource].messages)) for resource, count in waiting.items())

    def _again(self, resource: Resource, missing: int) -> int:
        now = self._clock.now()
        most = min(missing, BATCH)
        hints = self._outbox.unheard(now, now - self._rules.patience, resource, most) if most else []
        if hints:
            LOGGER.warning("%d messages for %s seem lost and are sent again", len(hints), resource.value)
        return self._tell(hints, again=True)

    def _tell(self, hints: list[Hint], *, again: bool) -> int:
        if hints:
            self._messages.publish(hints)
            self._outbox.told(hints, self._clock.now(), again=again)
        return len(hints)
