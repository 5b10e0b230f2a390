"""Second: another bundle reads what was answered, while nothing else waits; what it finds is kept, and goes nowhere."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from daemon.clock import Clock
from daemon.domain.instance import Instance
from daemon.domain.model_bundle import BundleRef, Manifest
from daemon.domain.reasons import Reason
from daemon.domain.second import SecondOutcome, SecondTask
from daemon.domain.selection import choose
from daemon.errors import OverreadError, RefusedError, RetryableError, UnprocessableError
from daemon.imaging.read import read_series
from daemon.imaging.reading import Reading
from daemon.imaging.suv import in_units
from daemon.imaging.volume import Grid
from daemon.results.returned import overlap
from daemon.services.inputs import by_role, instances_of
from daemon.services.ports import Files, Reader, Seconds, Spool

LOGGER = logging.getLogger(__name__)
ATTEMPTS = 3
PAUSE = timedelta(minutes=1)


class GaveWayError(OverreadError):
    """Something else waits: the read is broken off, and begun anew when nothing does."""


@dataclass(frozen=True, kw_only=True)
class SecondRules:
    """How second reads are worked on.

    `reader` gives what reads, made when first needed. `waits` tells whether anything else is to be done, and is asked
    again and again during a read. What takes longer than `limit` cannot be told to stop: `overdue` ends the process.
    """

    reader: Callable[[], Reader]
    waits: Callable[[], bool]
    limit: timedelta = timedelta(minutes=30)
    overdue: Callable[[], None] = lambda: None


@dataclass(frozen=True, kw_only=True)
class SecondStores:
    """Where it reads and writes."""

    seconds: Seconds
    files: Files
    spool: Spool


class Second:
    """A worker's loop body, for when it has nothing else to do."""

    def __init__(self, stores: SecondStores, clock: Clock, rules: SecondRules) -> None:
        self._stores = stores
        self._clock = clock
        self._rules = rules

    def step(self) -> bool:
        """Read one study a second time; False where none is due, or something else is."""
        now = self._clock.now()
        task = None if self._rules.waits() else self._stores.seconds.claim(now, now + 2 * self._rules.limit)
        if task is None:
            return False
        timer = threading.Timer(self._rules.limit.total_seconds(), self._rules.overdue)
        timer.daemon = True
        timer.start()
        try:
            self._work(task)
        finally:
            timer.cancel()
        return True

    def give_way(self) -> None:
        """Break the read under way off where something else waits.

        Raises:
            GaveWayError: it does.
        """
        if self._rules.waits():
            raise GaveWayError("gave way to a study that waits for its answer")

    def _work(self, task: SecondTask) -> None:
        try:
            outcome = self._outcome(task)
        except GaveWayError as error:
            self._stores.seconds.release(task, str(error), self._clock.now())
            return
        except (RetryableError, OSError) as error:
            if task.attempts < ATTEMPTS:
                LOGGER.warning("second read %d is tried again: %s", task.id, error)
                self._stores.seconds.postpone(task, str(error), self._clock.now() + PAUSE)
                return
            why = f"begun {ATTEMPTS} times, the last in vain: {error}; mend that, then ask for it again"
            outcome = SecondOutcome(detail=why)
        except UnprocessableError as error:
            outcome = SecondOutcome(detail=str(error))
        except MemoryError:
            outcome = SecondOutcome(detail="out of memory; raise inference.memory_mb, then ask for it again")
        except Exception as error:
            # The edge of the loop: an unknown error ends this read, is kept with it, and the worker goes on.
            LOGGER.exception("second read %d failed unexpectedly", task.id)
            outcome = SecondOutcome(detail=f"{type(error).__name__}; see the worker's log")
        self._stores.seconds.settle(task, outcome, self._clock.now())
        LOGGER.info("second read %d of job %d: %s", task.id, task.job_id, outcome.state.value)

    def _outcome(self, task: SecondTask) -> SecondOutcome:
        if task.attempts > ATTEMPTS:
            return SecondOutcome(
                detail=f"begun {ATTEMPTS} times, the last without an end: whoever read it died, or could not say what "
                "it found; see the log, then ask for it again"
            )
        reader = self._rules.reader()
        manifest = self._manifest(reader, task.bundle)
        mend = "have the study sent again, then ask for it again"
        instances = instances_of(task.input, self._stores.files, self._stores.spool, mend)
        _check(manifest, task, instances)
        paths = by_role(task.input, instances, self._stores.spool)
        sources = {role: read_series(some) for role, some in paths.items()}
        self.give_way()
        volumes = {role: in_units(role, source) for role, source in sources.items()}
        reading = reader.read(task.bundle, volumes, task.input.study_instance_uid)
        dice, detail = self._dice(task, reading, volumes[manifest.recipe.channels[0].role].grid)
        return SecondOutcome(findings=reading.findings, dice=dice, detail=detail, seconds=dict(reading.seconds))

    @staticmethod
    def _manifest(reader: Reader, ref: BundleRef) -> Manifest:
        found = next((bundle.manifest for bundle in reader.bundles() if bundle.ref == ref), None)
        if found is None:
            raise UnprocessableError(
                Reason.MODEL, f"bundle {ref.name} {ref.version} is not installed; install it and ask for it again"
            )
        return found

    def _dice(self, task: SecondTask, reading: Reading, grid: Grid) -> tuple[float | None, str]:
        """Return Dice between the outlines of the answer and this read, or why it is not known."""
        ours, spool = task.outline, self._stores.spool
        if ours is not None and (ours.freed or not spool.sound(ours.digest)):
            return None, "outlines not compared: the answer's is no longer in the spool (data.keep_days)"
        if ours is None:
            return (0.0, "") if reading.labels.any() else (None, "")
        try:
            return overlap(spool.path(ours.digest), reading.labels > 0, grid), ""
        except RefusedError as error:
            return None, f"outlines not compared: {error}"


def _check(manifest: Manifest, task: SecondTask, instances: list[Instance]) -> None:
    """Raise UnprocessableError unless the bundle, left to choose, would read the very same series."""
    choice = choose(instances, [manifest])
    if choice.refusal:
        raise UnprocessableError(choice.refusal.reason, f"the bundle does not read it: {choice.refusal.detail}")
    chosen = {role: series.series_instance_uid for one in choice.chosen for role, series in one.series.items()}
    if chosen != dict(task.input.series):
        raise UnprocessableError(Reason.WRONG_SEQUENCE, "the bundle reads other series of the study; not comparable")
