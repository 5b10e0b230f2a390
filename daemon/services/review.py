"""Review: which result a returned SEG corrects, and by how much."""

import logging
from dataclasses import replace
from datetime import timedelta

from daemon.clock import Clock
from daemon.domain.feedback import Outcome, Returned, link
from daemon.errors import RefusedError, RetryableError
from daemon.results.returned import claims, compare
from daemon.services.ports import Reviews, Spool

LOGGER = logging.getLogger(__name__)
# Longer than any look takes; one that was cut off is taken up again.
LEASE = timedelta(minutes=10)
ATTEMPTS = 3


class Review:
    """Looks at one returned SEG a step; whatever it holds, it stays kept."""

    def __init__(self, reviews: Reviews, spool: Spool, clock: Clock) -> None:
        self._reviews = reviews
        self._spool = spool
        self._clock = clock

    def step(self) -> int:
        """Look at the next; return how many there were."""
        due = self._reviews.claim(self._clock.now(), LEASE)
        if due is None:
            return 0
        try:
            outcome = self._outcome(due)
        except RetryableError as error:
            LOGGER.warning("feedback %d is looked at again: %s", due.id, error)
            return 0
        self._reviews.settle(due.id, outcome, self._clock.now())
        LOGGER.info(
            "feedback %d: %s, job %s, by %s", due.id, outcome.state.value, outcome.job_id, outcome.evidence or "nothing"
        )
        return 1

    def _outcome(self, due: Returned) -> Outcome:
        if due.attempts > ATTEMPTS:
            return Outcome(detail=f"whoever looked at it died {ATTEMPTS} times; it is not looked at again")
        if not self._spool.sound(due.digest):
            if self._spool.late:
                raise RetryableError("it is not in the bucket yet, or damaged there")
            return Outcome(detail="its file is damaged on the disk; send it again")
        try:
            found = self._linked(due)
            return found if found.job_id is None else self._measured(due, found, found.job_id)
        except RefusedError as error:
            return Outcome(detail=str(error))
        except MemoryError:
            return Outcome(detail="it takes more memory than a worker may have; raise inference.memory_mb")

    def _linked(self, due: Returned) -> Outcome:
        said, study = claims(self._spool.path(due.digest)), due.study_instance_uid
        series = said.series | self._reviews.series(study, said.instances)
        return link(replace(said, series=series), self._reviews.candidates(study))

    def _measured(self, due: Returned, found: Outcome, job: int) -> Outcome:
        """Return a link with how far the outline is from ours, or why nobody can tell."""
        ours = self._reviews.outline(job)
        if ours is not None and (ours.freed or not self._spool.sound(ours.digest)):
            return found.unmeasured("not compared: our outline is no longer in the spool (data.keep_days)")
        try:
            agreement = compare(self._spool.path(due.digest), None if ours is None else self._spool.path(ours.digest))
        except RefusedError as error:
            return found.unmeasured(f"not compared: {error}")
        return replace(found, dice=agreement.dice, ml=agreement.ml)
