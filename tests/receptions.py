"""Receptions for tests of the network: one that remembers, one that writes files and syncs them."""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from daemon.domain.reception import Announced, Verdict


@dataclass(kw_only=True)
class RememberedObject:
    """What came of one object: its bytes, and whether it was finished or aborted."""

    announced: Announced
    content: bytearray = field(default_factory=bytearray)
    verdict: Verdict = Verdict.STORED
    finished: bool = False
    aborted: bool = False
    on_write: Callable[[int], None] = lambda _: None

    def write(self, chunk: bytes | memoryview) -> None:
        """Keep a copy."""
        self.on_write(len(self.content))
        self.content += chunk

    def finish(self) -> Verdict:
        """Answer the verdict that was set."""
        self.finished = True
        return self.verdict

    def abort(self) -> None:
        """Remember that it came to nothing."""
        self.aborted = True


@dataclass(kw_only=True)
class RememberingReception:
    """Keeps everything in memory, in order of arrival."""

    verdict: Verdict = Verdict.STORED
    on_write: Callable[[int], None] = lambda _: None
    on_open: Callable[[Announced], None] = lambda _: None
    on_rest: Callable[[], None] = lambda: None
    objects: list[RememberedObject] = field(default_factory=list)
    opened: list[tuple[str, str]] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    def open(self, announced: Announced) -> RememberedObject:
        """Begin an object."""
        self.on_open(announced)
        incoming = RememberedObject(announced=announced, verdict=self.verdict, on_write=self.on_write)
        self.objects.append(incoming)
        return incoming

    def rested(self) -> None:
        """Do what the test wants at such a moment."""
        self.on_rest()

    def association_opened(self, association: str, calling_ae: str) -> None:
        """Remember it."""
        self.opened.append((association, calling_ae))

    def association_closed(self, association: str) -> None:
        """Remember it."""
        self.closed.append(association)


class SyncedFile:
    """An object that is on disk, file and directory synced, when `finish` returns."""

    def __init__(self, folder: Path, announced: Announced) -> None:
        self._final = folder / f"{announced.sop_instance_uid}.dcm"
        self._partial = folder / f".{announced.sop_instance_uid}.{threading.get_ident()}.part"
        self._file = self._partial.open("wb", buffering=0)

    def write(self, chunk: bytes | memoryview) -> None:
        """Append."""
        self._file.write(chunk)

    def finish(self) -> Verdict:
        """Sync the file, rename it, sync the folder."""
        os.fsync(self._file.fileno())
        self._file.close()
        self._partial.rename(self._final)
        folder = os.open(self._final.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return Verdict.STORED

    def abort(self) -> None:
        """Remove what came."""
        self._file.close()
        self._partial.unlink()


class FolderReception:
    """Writes each object to a folder, durably, with no ledger."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def open(self, announced: Announced) -> SyncedFile:
        """Begin a file."""
        return SyncedFile(self._folder, announced)

    def rested(self) -> None:
        """Make nothing ready."""

    def association_opened(self, association: str, calling_ae: str) -> None:
        """Keep no record of associations."""

    def association_closed(self, association: str) -> None:
        """Keep no record of associations."""
