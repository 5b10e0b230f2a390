"""Sends the audit log on to a repository; the log itself is the queue, and a small file beside it says how far it went.

A batch counts as sent once the repository is known to have it; until then it is sent again, so that a message may come
twice (the same line number in `sequenceId`) and none is left out.
"""

import fcntl
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path

from daemon.audit.chain import START, Chain
from daemon.audit.links import Link
from daemon.audit.syslog import encode
from daemon.clock import Clock
from daemon.domain.delivery import RetryPolicy
from daemon.errors import OverreadError

LOGGER = logging.getLogger(__name__)
RETRY = RetryPolicy(first=timedelta(seconds=5), longest=timedelta(minutes=5))
# From the end of a batch to the next; with `Link.most` the messages a second that docs/audit.md promises.
_PAUSE = 1.0
# Written in one go over what was there, and longer than it can be.
_SIZE = 4096
_MOST_REASON = 300


@dataclass(frozen=True, kw_only=True)
class Position:
    """The last line that was sent (its number, 0 for none, its bytes and digest), and what has failed since."""

    number: int = 0
    begin: int = 0
    end: int = 0
    digest: str = START
    failures: int = 0
    since: str = ""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far the repository is behind the log; `oldest` is the time of the first line that waits."""

    lines: int
    sent: int
    waiting: int
    oldest: str
    failures: int
    since: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """Messages, and the position that they lead to."""

    messages: tuple[bytes, ...]
    after: Position


class Forwarder:
    """Sends what the log holds and the repository does not; `hostname` is this machine's.

    `elapsed` gives seconds that no setting of the clock moves; what is due goes by them.
    """

    def __init__(
        self, chain: Chain, link: Link, clock: Clock, hostname: str, elapsed: Callable[[], float] = time.monotonic
    ) -> None:
        self._chain = chain
        self._link = link
        self._clock = clock
        self._hostname = hostname
        self._elapsed = elapsed
        self._due = 0.0

    def step(self) -> int:
        """Send one batch where one is due; return how many messages the repository has taken."""
        if self._elapsed() < self._due:
            return 0
        with _held(_place(self._chain)) as handle:
            if handle is None:
                return 0
            position = self._found(handle)
            batch = self._next(position)
            if batch is None:
                return 0
            try:
                self._link.send(batch.messages)
            except OverreadError as error:
                self._failed(handle, position, str(error))
                return 0
            self._due = self._elapsed() + _PAUSE
            _write(handle, batch.after)
            if position.failures:
                LOGGER.info("audit messages go out again")
            return len(batch.messages)

    def _found(self, handle: int) -> Position:
        """Return where the log was left; its start where it is another log."""
        position = _read(handle)
        if _of(self._chain, position):
            return position
        LOGGER.warning("the audit log is not the one that was forwarded last; it is sent from its start")
        _write(handle, Position())
        return Position()

    def _next(self, position: Position) -> _Batch | None:
        """Return what comes after `position`; None where that is nothing."""
        head = self._chain.newest()
        messages: list[bytes] = []
        after = replace(position, failures=0, since="", reason="")
        for line in self._chain.lines(position.end):
            if line.end > head.end or len(messages) == self._link.most:
                break
            after = replace(
                after, number=position.number + line.place, begin=after.end, end=line.end, digest=line.digest
            )
            try:
                messages.append(encode(line.document or {}, self._hostname))
            except (KeyError, ValueError, TypeError):
                LOGGER.error(  # noqa: TRY400 - what is wrong is the line, and `audit verify` shows it
                    "line %d of the audit log is damaged and was not forwarded; run `overread audit verify`",
                    after.number,
                )
        return _Batch(messages=tuple(messages), after=after) if after.number > position.number else None

    def _failed(self, handle: int, before: Position, reason: str) -> None:
        reason = reason[:_MOST_REASON]
        if before.reason != reason:
            LOGGER.warning("audit messages wait: %s", reason)
        since = before.since or self._clock.now().isoformat(timespec="seconds")
        _write(handle, replace(before, failures=before.failures + 1, since=since, reason=reason))
        # One forwarder sends to a repository: there is no crowd to spread.
        self._due = self._elapsed() + RETRY.wait(before.failures + 1, 1.0).total_seconds()


def progress(chain: Chain) -> Progress:
    """Tell how far the repository is behind."""
    try:
        handle = os.open(_place(chain), os.O_RDONLY)
    except FileNotFoundError:
        position = Position()
    else:
        try:
            position = _read(handle)
        finally:
            os.close(handle)
    if not _of(chain, position):
        position = replace(position, number=0, begin=0, end=0, digest=START)
    lines = chain.newest().number
    oldest = next(chain.lines(position.end), None)
    return Progress(
        lines=lines,
        sent=position.number,
        waiting=max(lines - position.number, 0),
        oldest=str((oldest.document or {}).get("time", "")) if oldest else "",
        failures=position.failures,
        since=position.since,
        reason=position.reason,
    )


def _place(chain: Chain) -> Path:
    return chain.path.with_suffix(".sent")


def _of(chain: Chain, position: Position) -> bool:
    """Tell whether `position` is one of this log, and not of one that was moved away."""
    return position.number == 0 or chain.holds(position.begin, position.end, position.digest)


@contextmanager
def _held(path: Path) -> Iterator[int | None]:
    """Yield the file that keeps the position, or None where another process is at it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield handle
    finally:
        os.close(handle)


def _read(handle: int) -> Position:
    """Return what was kept; the start of the log where that cannot be read, because twice is better than never."""
    try:
        return Position(**json.loads(os.pread(handle, _SIZE, 0)))
    except (ValueError, TypeError):
        return Position()


def _write(handle: int, position: Position) -> None:
    os.pwrite(handle, json.dumps(asdict(position)).encode().ljust(_SIZE), 0)
