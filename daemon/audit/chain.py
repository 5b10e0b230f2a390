"""The audit log's file: one JSON line an event, each holding the SHA-256 of the line before it.

A small file beside it remembers the newest line (its number, its digest, where it ends), so that an append need not
read the log and a log that lost its end is told from one that never had it. It is there before the first line is: a log
with lines but without it may have lost some. Several processes append: they take turns by a lock on that file.
"""

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

LOGGER = logging.getLogger(__name__)
START = "0" * 64
# What stands for the digest of a line that nobody remembers: no line has it, so the next one never fits.
FORGOTTEN = "f" * 64
# Written in one go over what was there, and longer than it can be.
_HEAD_SIZE = 4096


@dataclass(frozen=True, kw_only=True)
class Head:
    """The newest line: its number (0 for none), its digest, and the byte after it."""

    number: int = 0
    digest: str = START
    end: int = 0


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the log: its number in the file (from 1), the byte after it, and what it holds (None: no JSON)."""

    place: int
    end: int
    digest: str
    document: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of the chain: lines that hold, the last one's digest, and where and why it breaks."""

    lines: int
    digest: str = START
    broken_at: int | None = None
    reason: str = ""


class Chain:
    """A hash-chained file of JSON lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._head = path.with_suffix(".head")

    def append(self, documents: Sequence[dict[str, Any]]) -> None:
        """Append `documents`, in order, and return when they are durable.

        A line that a crash cut short is dropped first: nobody was told that it was written. Where the log lost lines
        that it had, the chain goes on from those lines, so that their absence stays to be seen. Where nothing remembers
        the newest line, what comes first now follows none, for the same reason.

        Raises:
            OSError: they cannot be written; none is.
        """
        with self._locked() as head_file:
            log = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                head = self._newest(head_file, log)
                encoded, head = _encode(documents, head)
                fresh = os.fstat(log).st_size == 0
                _write(log, encoded)
                if fresh:
                    _sync_folder(self.path.parent)
                # After the log's own flush: the head must never name a line that a loss of power takes back.
                _write_head(head_file, head)
            finally:
                os.close(log)

    def newest(self) -> Head:
        """Return the newest line that is known to be durable."""
        with self._locked() as head_file:
            return _read_head(head_file) or Head()

    def holds(self, begin: int, end: int, digest: str) -> bool:
        """Tell whether bytes `begin` to `end` of the log are the line of this digest."""
        try:
            with self.path.open("rb") as file:
                file.seek(begin)
                raw = file.read(end - begin)
        except OSError:
            return False
        return len(raw) == end - begin and _digest(raw) == digest

    def lines(self, offset: int = 0) -> Iterator[Line]:
        """Yield the whole lines from byte `offset` on; a cut one at the end is left out."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(offset)
            end = offset
            for place, raw in enumerate(file, start=1):
                if not raw.endswith(b"\n"):
                    return
                end += len(raw)
                yield Line(place=place, end=end, digest=_digest(raw), document=_document(raw))

    def verify(self) -> Verdict:
        """Walk the whole chain as it is now; who appends meanwhile is not held up."""
        with self._locked() as head_file:
            head = _read_head(head_file)
            size = self.path.stat().st_size if self.path.exists() else 0
        before = Head()
        for line in self.lines():
            if line.end > size:
                break
            fault = _fault(line, before, head)
            if fault:
                return Verdict(lines=before.number, digest=before.digest, broken_at=line.place, reason=fault)
            before = Head(number=line.place, digest=line.digest, end=line.end)
        return _ending(before, head, size)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        # flock, not a lock of the process: it also holds between threads, each of which opens the file anew.
        handle = os.open(self._head, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield handle
        finally:
            os.close(handle)

    def _newest(self, head_file: int, log: int) -> Head:
        """Return the newest line, and leave `log` ending after it."""
        size = os.fstat(log).st_size
        head = _read_head(head_file)
        if head is None and size:
            return self._forgotten(log, size)
        if head is None:
            head = Head()
            _write_head(head_file, head)
        if size < head.end:
            size = _end_line(log, size)
            head = Head(number=head.number, digest=head.digest, end=size)
        whole = head.end
        for line in self.lines(head.end):
            whole = line.end
            head = Head(number=head.number + 1, digest=line.digest, end=whole)
        if whole < size:
            os.ftruncate(log, whole)
        os.lseek(log, whole, os.SEEK_SET)
        return head

    def _forgotten(self, log: int, size: int) -> Head:
        """Return a newest line that is none, and leave `log` ending after a whole line."""
        LOGGER.error(
            "the file that remembers the newest line of the audit log is gone or damaged: lines may have been cut off; "
            "compare the log with a copy"
        )
        end = _end_line(log, size)
        os.lseek(log, end, os.SEEK_SET)
        return Head(number=sum(1 for _ in self.lines()), digest=FORGOTTEN, end=end)


def _end_line(log: int, size: int) -> int:
    """End a line that was cut, so that the next one stands alone; return the log's size."""
    if size == 0 or os.pread(log, 1, size - 1) == b"\n":
        return size
    os.pwrite(log, b"\n", size)
    return size + 1


def _encode(documents: Sequence[dict[str, Any]], head: Head) -> tuple[bytes, Head]:
    encoded = bytearray()
    for document in documents:
        number = head.number + 1
        raw = json.dumps({"number": number, "previous": head.digest, **document}).encode() + b"\n"
        encoded += raw
        head = Head(number=number, digest=_digest(raw), end=head.end + len(raw))
    return bytes(encoded), head


def _write(log: int, encoded: bytes) -> None:
    start = os.lseek(log, 0, os.SEEK_CUR)
    view = memoryview(encoded)
    try:
        while view:
            view = view[os.write(log, view) :]
        os.fsync(log)
    except OSError:
        os.ftruncate(log, start)
        raise


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw.removesuffix(b"\n")).hexdigest()


def _document(raw: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(raw)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _write_head(handle: int, head: Head) -> None:
    """Keep `head`, durably where there was none; later ones lie in its place, so that a loss of power leaves one."""
    fresh = os.fstat(handle).st_size < _HEAD_SIZE
    os.pwrite(handle, json.dumps([head.number, head.digest, head.end]).encode().ljust(_HEAD_SIZE), 0)
    if fresh:
        os.fsync(handle)


def _read_head(handle: int) -> Head | None:
    try:
        number, digest, end = json.loads(os.pread(handle, _HEAD_SIZE, 0))
        head = Head(number=int(number), digest=str(digest), end=int(end))
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None
    return head if head.number >= 0 and head.end >= 0 else None


def _fault(line: Line, before: Head, head: Head | None) -> str:
    """Return what is wrong with a line that follows `before`, or ""."""
    if line.document is None:
        return "not a line of the log"
    if line.document.get("previous") == FORGOTTEN:
        return "written after the file that remembers the newest line was gone: lines before it may have been cut off"
    if line.document.get("previous") != before.digest or line.document.get("number") != line.place:
        return "does not follow the line before it: that one was changed, or lines between them were removed"
    if head is not None and line.place == head.number and line.digest != head.digest:
        return "not the line that was written last: it was changed"
    return ""


def _ending(last: Head, head: Head | None, size: int) -> Verdict:
    holds = Verdict(lines=last.number, digest=last.digest)
    if head is not None and last.number < head.number:
        reason = f"the log ends here, but had {head.number} lines: lines were cut off"
        return replace(holds, broken_at=last.number + 1, reason=reason)
    if head is None and size:
        reason = "the file that remembers the newest line is gone: lines may have been cut off"
        return replace(holds, broken_at=last.number + 1, reason=reason)
    return holds
