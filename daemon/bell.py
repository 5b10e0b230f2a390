"""A bell beside the ledger: who commits what another part waits for wakes it, which would else look at its next poll.

It carries nothing, and nothing hangs on it: a ring that is not heard costs what a poll costs. To ring is to open a file
in the data folder, of which the kernel tells who watches it (inotify(7)). So there is no queue that fills, nothing to
clean up after a kill, and any number of processes hear it; those of other machines do not.
"""

import ctypes
import logging
import os
import select
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from daemon.domain.news import News

LOGGER = logging.getLogger(__name__)
_IN_OPEN = 0x20  # linux/inotify.h
_EVENTS = 4096
# Of studies there is news with every association, and a look at one that waits takes tens of milliseconds: so many
# seconds lie between two rings of a process.
_APART = {News.STUDY: 1.0}


class Stop(threading.Event):
    """An event that can be awaited together with others: `fileno` is readable once it is set."""

    def __init__(self) -> None:
        super().__init__()
        self._told, self._tell = os.pipe()

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._told

    def set(self) -> None:
        """Set it."""
        if not self.is_set():
            super().set()
            os.write(self._tell, b".")


class Ear:
    """Where one thread rests: until it is rung for, is to stop, or its time is up."""

    def __init__(self, stop: Stop, watch: int | None) -> None:
        self._watch = watch
        self._poll = select.poll()
        for one in (stop.fileno(), watch):
            if one is not None:
                self._poll.register(one, select.POLLIN)

    def wait(self, seconds: float) -> bool:
        """Rest for so long at most; return whether it was rung since the last rest."""
        self._poll.poll(max(seconds, 0.0) * 1000)
        if self._watch is None:
            return False
        try:
            return bool(os.read(self._watch, _EVENTS))
        except BlockingIOError:
            return False


class Bells:
    """The bells of a data folder, one for each kind of news."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rung: dict[News, float] = {}

    def ring(self, news: News) -> None:
        """Wake who waits for that; where nobody does, or nobody can be reached, nothing happens."""
        now = time.monotonic()
        if now < self._rung.get(news, -sys.maxsize) + _APART.get(news, 0.0):
            return
        self._rung[news] = now
        with suppress(OSError):
            os.close(os.open(self._folder / news.value, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))

    @contextmanager
    def heard(self, stop: Stop, *news: News) -> Iterator[Ear]:
        """Yield an ear for these; one that the system refuses hears `stop` alone."""
        watch = None
        try:
            watch = _watching([self._folder / one.value for one in news])
        except (OSError, AttributeError) as error:
            LOGGER.warning("the ledger is only polled: its bell cannot be heard (%s)", error)
        try:
            yield Ear(stop, watch)
        finally:
            if watch is not None:
                os.close(watch)


def _watching(paths: Sequence[Path]) -> int:
    """Return a descriptor that is readable once somebody opens one of these files, which are made.

    Raises:
        OSError: the system allows no more (`fs.inotify.max_user_instances`), or a file cannot be made.
        AttributeError: it has no inotify.
    """
    library = ctypes.CDLL(None, use_errno=True)
    watch: int = library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    _check(watch)
    try:
        for path in paths:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            path.touch(mode=0o600)
            _check(library.inotify_add_watch(watch, os.fsencode(path), _IN_OPEN))
    except BaseException:
        os.close(watch)
        raise
    return watch


def _check(answer: int) -> None:
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
