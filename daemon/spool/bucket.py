"""The spool in a bucket, with a write-ahead spool on the disk.

`objects` on the disk holds what waits for the bucket, so that the folder is the backlog; `copies` what is read here:
what was uploaded, or fetched. In the bucket each upload of a digest has a key of its own, `objects/DIGEST/ANYTHING`:
what a sweep finds old and deletes is never what another machine has uploaded since then.
"""

import fcntl
import hashlib
import hmac
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from daemon.domain.bucket import Acknowledge
from daemon.errors import FatalError, RetryableError
from daemon.spool.flushes import Disk
from daemon.spool.s3 import Bucket
from daemon.spool.store import Draft, Spool, place, whole

LOGGER = logging.getLogger(__name__)
# Requests under way at once, of each process.
_HANDS = 8
# Of a longer backlog so many are uploaded before anything else gets its turn.
_TURN = 256
# What was looked for so lately may be about to be read: it is no room.
_LEASE = timedelta(hours=1)
# Between two looks for room, or for copies that nobody reads, in seconds.
_ROOM_SECONDS, _TIDY_SECONDS = 60.0, 3600.0
_KEY_MARK = "patient-key"


@dataclass(frozen=True, kw_only=True)
class Terms:
    """When an instance counts as kept, how long a copy that nobody reads stays, and what gives patient.key."""

    acknowledge: Acknowledge
    keep: timedelta
    key: Callable[[], bytes]


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """What waits on this disk for the bucket: files, bytes, and for how many seconds the oldest has."""

    files: int
    size: int
    seconds: float


class _Draft(Draft):
    """A draft that nobody uploads while it is at hand; `upload` is what does before it counts as settled."""

    upload: Callable[[str], None] | None = None
    uploaded: Callable[[str], None] | None = None

    def __init__(self, incoming: Path, objects: Path, disk: Disk, begun: FileIO | None = None) -> None:
        super().__init__(incoming, objects, disk, begun)
        fcntl.flock(self._file, fcntl.LOCK_SH)

    def settle(self) -> None:
        """Give the file its name and, where that is the bargain, put it into the bucket while the disk is flushed.

        Raises:
            OSError: the disk refuses.
            RetryableError: the bucket does.
        """
        super().settle()
        if self.upload:
            self.upload(self.digest)

    def sync(self) -> None:
        """Wait until the file is durable here, too."""
        super().sync()
        if self.uploaded:
            self.uploaded(self.digest)


class BucketSpool(Spool):
    """A spool whose files are in a bucket; those here are on their way, or copies."""

    def __init__(self, root: Path, headroom: int, bucket: Bucket, terms: Terms) -> None:
        super().__init__(root, headroom)
        self.bucket = bucket
        self.late = terms.acknowledge is Acknowledge.LOCAL
        self._terms = terms
        self._hands = ThreadPoolExecutor(_HANDS, thread_name_prefix="bucket")
        self._copies = root / "copies"
        for prefix in range(256):
            (self._copies / f"{prefix:02x}").mkdir(parents=True, exist_ok=True)
        self._agreed = self._away = False
        self._next_room = self._next_tidy = 0.0

    def agree(self) -> None:
        """Check that patient.key is the one that the bucket was begun with; the first machine notes which one that is.

        Raises:
            FatalError: it is another.
            RetryableError: the bucket does not answer.
        """
        if self._agreed:
            return
        ours = hmac.new(self._terms.key(), b"overread patient.key", hashlib.sha256).hexdigest().encode()
        there = self.bucket.read(_KEY_MARK)
        if there is None:
            self.bucket.create(_KEY_MARK, ours)
            there = self.bucket.read(_KEY_MARK)
        if there != ours:
            raise FatalError(
                f"{self.bucket.place}: patient.key of this data folder is not the one that the bucket was begun with, "
                "so that patients would be told apart wrongly; copy patient.key from a machine that uses the bucket, "
                "in place of this one's"
            )
        self._agreed = True

    def draft(self) -> Draft:
        """Begin a file."""
        return self._draft(at_once=not self.late)

    def put(self, content: bytes) -> tuple[str, int]:
        """Keep `content`, in the bucket whatever is acknowledged when; return its digest and size.

        Raises:
            RetryableError: the bucket does not take it.
        """
        return self._kept(self._draft(at_once=True), content)

    def upload(self) -> int:
        """Upload what waits, at most a turn of it; return how many files went."""
        if time.monotonic() >= self._next_tidy:
            self._next_tidy = time.monotonic() + _TIDY_SECONDS
            self._shed(max(self._terms.keep, _LEASE), lambda: False)
        names = [path.name for _, path in zip(range(_TURN), self._objects.glob("*/*"), strict=False)]
        try:
            done = sum(self._hands.map(self._send, names))
        except RetryableError as error:
            if not self._away:
                LOGGER.warning("what was received waits on this machine's disk: %s", error)
            self._away = True
            return 0
        if self._away and done:
            LOGGER.info("%s takes what waited", self.bucket.place)
        self._away = self._away and not done
        return done

    def backlog(self) -> Backlog:
        """Return what waits here."""
        found = []
        for path in self._objects.glob("*/*"):
            with suppress(FileNotFoundError):  # uploaded meanwhile
                found.append(path.stat())
        oldest = min((one.st_mtime for one in found), default=0.0)
        seconds = max(0.0, self._now() - oldest) if found else 0.0
        return Backlog(files=len(found), size=sum(one.st_size for one in found), seconds=seconds)

    def examine(self) -> str:
        """Return in words that the bucket can be written, read, listed and cleared.

        Raises:
            OverreadError: it cannot, or is not ours; in words too, with the mend.
        """
        self.agree()
        key = f"doctor/{uuid.uuid4().hex}"
        self.bucket.put(key, key.encode())
        found = [
            self.bucket.read(key) == key.encode(),
            [one.key for one in self.bucket.listed("doctor")].count(key) == 1,
        ]
        self.bucket.delete([key])
        if not all(found):
            raise RetryableError(
                f"{self.bucket.place}: what was written is not read or listed at once; use another service"
            )
        return f"{self.bucket.place} is written and read; a sender is told success once it is {self._terms.acknowledge}"

    def full(self) -> bool:
        """Return whether less than the headroom is free, and no copy that nobody reads can make room."""
        if super().full():
            self._make_room()
        return super().full()

    def path(self, digest: str) -> Path:
        """Return where the file of `digest` is, or would be were it anywhere; fetched where it is not here.

        Raises:
            RetryableError: it is not here, and the bucket does not answer.
        """
        copy = self._copy(digest)
        if not copy.exists() and not self._link(self._waiting(digest), copy):
            self._fetch(digest)
        _touch(copy)
        return copy

    def bring(self, digests: Iterable[str]) -> None:
        """Fetch what is not here, several at a time.

        Raises:
            RetryableError: the bucket does not answer.
        """
        list(self._hands.map(self.path, digests))

    def holds(self, digest: str) -> bool:
        """Return whether the file of `digest` waits here or is in the bucket."""
        return self._waiting(digest).exists() or any(self.bucket.listed(f"objects/{digest}"))

    def sound(self, digest: str) -> bool:
        """Return whether there is a file of `digest` whose bytes have that digest; a damaged copy is replaced."""
        if super().sound(digest):
            return True
        self._copy(digest).unlink(missing_ok=True)
        if self._waiting(digest).exists() and not whole(self._waiting(digest)):
            self._put_aside(digest)
        return super().sound(digest)

    def free(self, digests: Iterable[str]) -> None:
        """Delete files, here and in the bucket; one that is gone already is no error."""
        given = list(digests)
        for digest in given:
            self._waiting(digest).unlink(missing_ok=True)
            self._copy(digest).unlink(missing_ok=True)
        found = self._hands.map(lambda digest: list(self.bucket.listed(f"objects/{digest}")), given)
        try:
            self.bucket.delete(entry.key for entries in found for entry in entries)
        except RetryableError as error:
            LOGGER.warning("what retention frees stays in the bucket until a listener starts: %s", error)

    def sweep(self, kept: set[str], age: timedelta) -> int:
        """Delete what no row names and nobody touched for `age`, by the clocks of the disk and of the service.

        A copy of what a row names and the bucket has not waits for it again.
        """
        gone = super().sweep(kept, age)
        before, there, old = self.bucket.now() - age, set(), []
        for entry in self.bucket.listed("objects"):
            digest = entry.key.split("/")[1]
            there.add(digest)
            if digest not in kept and entry.at < before:
                old.append(entry.key)
        self.bucket.delete(old)
        unread = self._now() - age.total_seconds()
        for copy in self._copies.glob("*/*"):
            if copy.name in kept and copy.name not in there:
                self._link(copy, self._waiting(copy.name))
            elif copy.name not in kept and _touched(copy) < unread:
                copy.unlink(missing_ok=True)
        return gone + len(old)

    def sizes(self) -> dict[str, int]:
        """Return the size in bytes of every kept file, by digest: in the bucket, and what waits here for it."""
        found = {entry.key.split("/")[1]: entry.size for entry in self.bucket.listed("objects")}
        return found | super().sizes()

    def _draft(self, *, at_once: bool) -> Draft:
        draft = _Draft(self._incoming, self._objects, self._disk, self._opened_before())
        if at_once:
            draft.upload, draft.uploaded = self._upload, self._uploaded
        return draft

    def _waiting(self, digest: str) -> Path:
        return place(self._objects, digest)

    def _copy(self, digest: str) -> Path:
        return place(self._copies, digest)

    @staticmethod
    def _link(source: Path, target: Path) -> bool:
        """Give a file a second name; return whether there is one."""
        try:
            os.link(source, target)
        except FileNotFoundError:
            return False
        except FileExistsError:
            pass
        return True

    def _upload(self, digest: str) -> None:
        self.agree()
        with self._opened(digest) as file:
            self.bucket.put(f"objects/{digest}/{uuid.uuid4().hex}", file)

    def _opened(self, digest: str) -> BinaryIO:
        try:
            return self._waiting(digest).open("rb")
        except FileNotFoundError:  # another draft of the same bytes was uploaded meanwhile
            return self._copy(digest).open("rb")

    def _uploaded(self, digest: str) -> None:
        """Let what is in the bucket wait no longer. After a loss of power it may wait again, and is uploaded again."""
        self._link(self._waiting(digest), self._copy(digest))
        self._waiting(digest).unlink(missing_ok=True)
        _touch(self._copy(digest))

    def _send(self, digest: str) -> bool:
        """Upload what waits; return whether it did, and was not at hand or gone."""
        path = self._waiting(digest)
        with suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not whole(path):
                self._put_aside(digest)
                return False
            self._upload(digest)
            self._uploaded(digest)
            return True
        return False

    def _put_aside(self, digest: str) -> None:
        LOGGER.error("%s was damaged on this disk before it was uploaded; have its study sent again", digest)
        with suppress(FileNotFoundError):
            self._waiting(digest).rename(self._incoming / f"{digest}.damaged")

    def _fetch(self, digest: str) -> bool:
        """Make a copy of what is in the bucket; return whether there is a whole one."""
        if super().full():
            self._make_room()
        part = self._incoming / f"{uuid.uuid4().hex}.part"
        for entry in self.bucket.listed(f"objects/{digest}"):
            try:
                with part.open("xb", buffering=0) as file:
                    whole = self.bucket.download(entry.key, file) == digest
                    os.fsync(file.fileno())
                if whole:
                    part.rename(self._copy(digest))
                    return True
                LOGGER.error("%s: %s is damaged", self.bucket.place, entry.key)
            finally:
                part.unlink(missing_ok=True)
        return False

    def _make_room(self) -> None:
        if time.monotonic() >= self._next_room:
            self._next_room = time.monotonic() + _ROOM_SECONDS
            self._shed(_LEASE, lambda: shutil.disk_usage(self.root).free >= 2 * self._headroom)

    def _shed(self, age: timedelta, enough: Callable[[], bool]) -> None:
        """Delete copies that nobody looked for since `age`, the oldest first, until there is enough room."""
        before = self._now() - age.total_seconds()
        old = sorted((touched, path) for path in self._copies.glob("*/*") if (touched := _touched(path)) < before)
        for _, path in old:
            if enough():
                return
            path.unlink(missing_ok=True)


def _touch(copy: Path) -> None:
    """Note that a copy is looked for; of what waits, whose second name it is, when it came stays known."""
    with suppress(FileNotFoundError):
        if copy.stat().st_nlink == 1:
            os.utime(copy)


def _touched(copy: Path) -> float:
    """Return when a copy was looked for last; a time that never comes of one that waits, or is gone."""
    try:
        found = copy.stat()
    except FileNotFoundError:
        return float("inf")
    return found.st_mtime if found.st_nlink == 1 else float("inf")
