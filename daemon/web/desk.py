"""Where uploads are handed in: one is read at a time, in a process of its own; few wait, and nothing is kept."""

import logging
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from daemon.bootstrap import House
from daemon.errors import OverreadError, RetryableError
from daemon.imaging.zipped import Bounds
from daemon.web.reading import Said, Terms, Wish

LOGGER = logging.getLogger(__name__)
_FOLDER = "uploads"
# At a time: one that is read, and those that wait or are on their way.
PLACES = 4
_MEGABYTE = 1 << 20


class BusyError(RetryableError):
    """There is no place now; the message says what to do."""


class OverdueError(OverreadError):
    """Reading took longer than it may, and was ended."""


class Desk:
    """Takes uploads for the reading process, which is started when first needed and whenever it ended."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._folder = house.settings.data.folder / _FOLDER
        # What the last console left when it was killed.
        shutil.rmtree(self._folder, ignore_errors=True)
        self._places = threading.BoundedSemaphore(PLACES)
        self._turn = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._loaded: set[str] = set()
        self._closed = False

    @property
    def folder(self) -> Path:
        """Return the folder that uploads lie in while they are read, for us alone."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        return self._folder

    @property
    def most_bytes(self) -> int:
        """Return how large an upload may be; 0 where none is taken."""
        return self._house.settings.web.try_mb * _MEGABYTE

    @property
    def loaded(self) -> list[str]:
        """Return the models that are loaded in the reading process."""
        child = self._child
        return sorted(self._loaded) if child and child.poll() is None else []

    @contextmanager
    def place(self) -> Iterator[Path]:
        """Give an upload its place, and a folder that is removed at the end.

        Raises:
            BusyError: there is no place, or no room on the disk.
        """
        if not self._places.acquire(blocking=False):
            raise BusyError("Other images are being read. Try again in a minute.")
        try:
            room = shutil.disk_usage(self.folder).free - self._house.settings.data.headroom_mb * _MEGABYTE
            if room < self.most_bytes + Bounds().size:
                raise BusyError("The disk is nearly full. Free some space, or lower web.try_mb.")
            with tempfile.TemporaryDirectory(dir=self._folder, ignore_cleanup_errors=True) as folder:
                yield Path(folder)
        finally:
            self._places.release()

    def read(self, wish: Wish) -> Said:
        """Have an upload read; waits its turn.

        Raises:
            BusyError: its turn did not come, or the console is stopping.
            OverdueError: it took too long.
        """
        seconds = self._house.settings.web.try_seconds
        if not self._turn.acquire(timeout=seconds):
            raise BusyError("The image before this one takes its time. Try again in a minute.")
        try:
            said = self._ask(wish, seconds)
        finally:
            self._turn.release()
        if said.answer:
            self._loaded.add(said.answer.model.name)
        if said.place:
            LOGGER.error("an upload could not be read: %s", said.place)
        return said

    def close(self) -> None:
        """End the reading process and take nothing more."""
        self._closed = True
        if self._child is not None:
            _bury(self._child)

    def _ask(self, wish: Wish, seconds: float) -> Said:
        overdue = threading.Event()
        line = wish.model_dump_json().encode() + b"\n"
        for _ in range(2):
            if self._closed:
                break
            child = self._running()

            def end(child: subprocess.Popen[bytes] = child) -> None:
                overdue.set()
                child.kill()

            timer = threading.Timer(seconds, end)
            timer.start()
            answer = _exchange(child, line)
            timer.cancel()
            if answer:
                return Said.model_validate_json(answer)
            code = child.wait()
            if overdue.is_set():
                raise OverdueError(f"Reading took longer than {seconds:g} s and was ended (web.try_seconds).")
            if code != 0:
                LOGGER.error("the reading process ended with %d", code)
                break
            # It had ended for want of work just before.
        raise BusyError("The reading process ended. Try again; the log may say more.")

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            self._loaded.clear()
            if self._child is not None:
                _bury(self._child)
            self._child = self._started()
        return self._child

    def _started(self) -> subprocess.Popen[bytes]:
        section, results = self._house.settings.inference, self._house.settings.results
        terms = Terms(
            models=self._house.settings.models(),
            threads=section.threads,
            passes=section.passes,
            provider=section.provider,
            trusted_keys=section.trusted_keys,
            memory_mb=section.memory_mb,
            research_use=results.research_use,
        )
        command = [sys.executable, "-m", "daemon.web.reading", terms.model_dump_json()]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)


def _exchange(child: subprocess.Popen[bytes], line: bytes) -> bytes:
    """Return the answer to a line, empty where the process ended instead."""
    _send(child, line)
    return child.stdout.readline() if child.stdout else b""


def _bury(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    with suppress(BrokenPipeError), child:
        pass


def _send(child: subprocess.Popen[bytes], line: bytes) -> None:
    try:
        if child.stdin:
            child.stdin.write(line)
            child.stdin.flush()
    except BrokenPipeError:
        # What became of it is asked by reading.
        return
