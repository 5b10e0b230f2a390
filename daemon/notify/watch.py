"""Looks, and tells what changed; what each was told is kept beside the ledger, so that a restart repeats nothing."""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

from pydantic import TypeAdapter
from tenacity import Retrying, retry_if_exception_type, sleep_using_event, stop_after_attempt, stop_when_event_set
from tenacity.wait import wait_random_exponential

from daemon.clock import Clock
from daemon.domain.alarm import Alarms, Notice, Told, notice
from daemon.errors import RetryableError
from daemon.notify.channels import Channel

LOGGER = logging.getLogger(__name__)
_ATTEMPTS, _LONGEST_SECONDS = 3, 10
_KEPT = TypeAdapter(dict[str, Told])


class Memory:
    """What each channel was told, in a file that is replaced whole."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, channel: str) -> Told:
        """Return what it was told; nothing where that cannot be read, because twice is better than never."""
        return self._all().get(channel, Told())

    def keep(self, channel: str, told: Told) -> None:
        """Note what it was told."""
        draft = self._path.with_suffix(".draft")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(_KEPT.dump_json({**self._all(), channel: told}))
        draft.replace(self._path)

    def _all(self) -> dict[str, Told]:
        try:
            return _KEPT.validate_json(self._path.read_bytes())
        except (OSError, ValueError):
            return {}


class Watch:
    """Tells each channel what began and what ended since it was told last; `look` returns what is wrong now."""

    def __init__(self, channels: Sequence[Channel], look: Callable[[], Alarms], memory: Memory, clock: Clock) -> None:
        self._channels = channels
        self._look = look
        self._memory = memory
        self._clock = clock
        self._failing: dict[str, str] = {}

    def step(self, host: str, quiet: timedelta, stop: threading.Event) -> int:
        """Look once; return how many messages went out."""
        found, sent = self._look(), 0
        for channel in self._channels:
            now = self._clock.now()
            message = notice(host, self._memory.get(channel.name), found, now, quiet)
            if message is not None and self._sent(channel, message, stop):
                self._memory.keep(channel.name, Told(at=now, alarms=found))
                sent += 1
        return sent

    def _sent(self, channel: Channel, message: Notice, stop: threading.Event) -> bool:
        """Return whether it arrived, after some attempts; else the next step tries again."""
        try:
            amiss = attempts(stop)(channel.send, message)
        except RetryableError as error:
            if self._failing.get(channel.name) != str(error):
                LOGGER.warning("nobody could be told: %s", error)
            self._failing[channel.name] = str(error)
            return False
        if self._failing.pop(channel.name, None):
            LOGGER.info("messages by %s arrive again", channel.name)
        if amiss:
            LOGGER.warning("not all could be told: %s", amiss)
        return True


def attempts(stop: threading.Event) -> Retrying:
    """Return what calls a few times, farther and farther apart, and ends with the last error or at `stop`."""
    return Retrying(
        stop=stop_after_attempt(_ATTEMPTS) | stop_when_event_set(stop),
        wait=wait_random_exponential(max=_LONGEST_SECONDS),
        retry=retry_if_exception_type(RetryableError),
        sleep=sleep_using_event(stop),
        reraise=True,
    )
