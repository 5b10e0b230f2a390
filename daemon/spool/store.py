"""The spool: temporary file, sync, rename, sync of the folder; names are digests, so they tell nothing."""

import hashlib
import os
import uuid
import weakref
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from io import FileIO
from pathlib import Path

from daemon.spool.flushes import Disk, Flushes, Pending

# Files that are opened before they are wanted, of one process.
_MOST_READY = 4
_PAGE = 4096
HEAD_BYTES = 1 << 16
# Files that are open, by their descriptors: by such a name one that has none gets one.
_OPEN_FILES = Path("/proc/self/fd")
_MODE = 0o666
# What a sweep puts aside before it deletes it.
_ASIDE = ".swept"


class Draft:
    """A file on its way in; `keep` makes it durable under its digest.

    It has no name until then, where the disk knows such files: the end of the process is its end. Else it lies in
    `incoming`. `begun` is a file that was opened for it before.
    """

    def __init__(self, incoming: Path, objects: Path, disk: Disk, begun: FileIO | None = None) -> None:
        self._incoming = incoming
        self._objects = objects
        self._disk = disk
        self._file, self._path = (begun, _opened_at(begun)) if begun else _begun(incoming)
        self._inode = os.fstat(self._file.fileno()).st_ino
        self._hash = hashlib.sha256()
        self._flushing: Pending | None = None
        self._shared = False
        # What is not written yet: it is written up to the end of a page, for half a page costs as much as a whole one.
        self._held = b""
        self.size = 0
        # kept in memory: reading the file back would wait for the journal that the flush is busy with
        self.head = b""

    @property
    def path(self) -> Path:
        """Return where all that was written can be read.

        Raises:
            OSError: the disk refuses it.
        """
        self._write_held()
        return self._path

    def write(self, chunk: bytes | memoryview) -> None:
        """Append bytes.

        Raises:
            OSError: the disk refuses them.
        """
        view = memoryview(chunk)
        self._hash.update(view)
        self.size += len(view)
        if len(self.head) < HEAD_BYTES:
            self.head += view[: HEAD_BYTES - len(self.head)]
        whole = len(view) - self.size % _PAGE
        if whole <= 0:
            self._held += view
            return
        self._put([self._held, view[:whole]])
        self._held = bytes(view[whole:])

    def _put(self, pieces: list[bytes | memoryview]) -> None:
        left = sum(map(len, pieces)) - os.writev(self._file.fileno(), pieces)
        if left:  # the disk is all but full, or the file system takes less at a time
            view = memoryview(b"".join(pieces))[-left:]
            while view:
                view = view[self._file.write(view) :]

    def _write_held(self) -> None:
        if self._held:
            self._put([self._held])
            self._held = b""

    @property
    def digest(self) -> str:
        """Return the SHA-256 of what was written, in hex."""
        return self._hash.hexdigest()

    def keep(self) -> Path:
        """Give the file its name and make it durable; return where it is."""
        self.settle()
        self.sync()
        return self._path

    def settle(self) -> None:
        """Give the file its name and begin to make it durable.

        It outlives this process from now on, and the machine's power after `sync`. It is flushed while the caller goes
        on, once it has its name, so that most disks' journals write both at once; by one thread, because each that
        wakes takes the interpreter from the caller. A file that is there already has the same bytes, or had them, and
        is replaced; only by one that is durable, for it may be promised.

        Raises:
            OSError: the disk refuses.
        """
        self._write_held()
        target = place(self._objects, self.digest)
        if self._named(target):
            self._path = target
            self._flushing = self._disk.submit(_flush, self._file.fileno(), target.parent)
        else:
            self._disk.submit(os.fsync, self._file.fileno()).result()
            self._replace(target)
            self._path, self._shared = target, True
            self._flushing = self._disk.submit(sync_folder, target.parent)

    def _named(self, target: Path) -> bool:
        """Give the file its name; return False where another has it."""
        if self._path.parent == self._incoming:
            if target.exists():
                return False
            self._path.rename(target)
            return True
        try:
            _link(self._path, target)
        except FileExistsError:
            return False
        return True

    def _replace(self, target: Path) -> None:
        if self._path.parent != self._incoming:
            unnamed, self._path = self._path, self._incoming / f"{uuid.uuid4().hex}.part"
            _link(unnamed, self._path)
        self._path.rename(target)

    def sync(self) -> None:
        """Wait until the file is durable.

        Raises:
            OSError: the disk refuses.
        """
        try:
            if self._flushing is not None:
                self._flushing.result()
        finally:
            self._file.close()

    def drop(self) -> None:
        """Forget the file; what another put in its place, before or since, may be promised to a sender, and stays."""
        if self._flushing is not None:
            with suppress(Exception):
                self._flushing.result()
        self._file.close()
        with suppress(FileNotFoundError):
            if not self._shared and self._path.parent != _OPEN_FILES and self._path.stat().st_ino == self._inode:
                self._path.unlink()


class Spool:
    """A folder of kept files (`objects`) and of files on their way in (`incoming`)."""

    # Whether what another machine received may come here later than its row.
    late = False

    def __init__(self, root: Path, headroom: int) -> None:
        """Make the folders where they are missing; `headroom` in bytes is what must stay free on the disk."""
        self.root = root
        self._headroom = headroom
        self._disk = Flushes()
        self._ready: deque[FileIO] = deque()
        weakref.finalize(self, _close_all, self._ready)
        self._incoming = root / "incoming"
        self._objects = root / "objects"
        self._incoming.mkdir(parents=True, exist_ok=True)
        for prefix in range(256):
            (self._objects / f"{prefix:02x}").mkdir(parents=True, exist_ok=True)

    def draft(self) -> Draft:
        """Begin a file."""
        return Draft(self._incoming, self._objects, self._disk, self._opened_before())

    def prepare(self) -> None:
        """Open a file for one of the next drafts, where the disk knows files without a name."""
        if len(self._ready) < _MOST_READY:
            file = _unnamed(self._incoming)
            if file is not None:
                self._ready.append(file)

    def _opened_before(self) -> FileIO | None:
        try:
            return self._ready.pop()
        except IndexError:
            return None

    def full(self) -> bool:
        """Return whether less than the headroom is free."""
        disk = os.statvfs(self.root)
        return disk.f_bavail * disk.f_frsize < self._headroom

    def path(self, digest: str) -> Path:
        """Return where the file of `digest` is, or would be."""
        return place(self._objects, digest)

    def bring(self, digests: Iterable[str]) -> None:
        """Have files here that are soon read; they are."""

    def holds(self, digest: str) -> bool:
        """Return whether there is a file of `digest`, whole or not."""
        return self.path(digest).exists()

    def sound(self, digest: str) -> bool:
        """Return whether the file of `digest` is there and its bytes still have that digest."""
        try:
            return whole(self.path(digest))
        except OSError:
            return False

    def put(self, content: bytes) -> tuple[str, int]:
        """Keep `content`; return its digest and size."""
        return self._kept(self.draft(), content)

    @staticmethod
    def _kept(draft: Draft, content: bytes) -> tuple[str, int]:
        try:
            draft.write(content)
            draft.keep()
        except BaseException:
            draft.drop()
            raise
        return draft.digest, draft.size

    def free(self, digests: Iterable[str]) -> None:
        """Delete files; one that is gone already is no error."""
        for digest in digests:
            self.path(digest).unlink(missing_ok=True)

    def sweep(self, kept: set[str], age: timedelta) -> int:
        """Delete drafts and files that no row names and that nobody touched for `age`; return how many.

        What is younger may be a file whose row another process, on another machine perhaps, is about to commit. The
        age is by the disk's own clock, which dates its files: ours may be another, or wrong.
        """
        before = self._now() - age.total_seconds()
        for path in self._incoming.glob(f"*{_ASIDE}"):
            self._return(path, kept, before)
        odd = [p for p in self._objects.glob("*/*") if p.name not in kept]
        old = [p for p in (*odd, *self._incoming.glob("*.part")) if _touched(p) < before]
        return sum(self._delete(path, before) for path in old)

    def _delete(self, path: Path, before: float) -> bool:
        """Delete a file that is as old as it was when it was looked at; one received anew since then comes back.

        It is looked at once more where nobody else finds it: a folder on another machine may be known from a copy.
        """
        aside = self._incoming / f"{path.stem}{_ASIDE}"
        with suppress(FileNotFoundError):  # another sweeps too, or retention freed it
            path.rename(aside)
            if _touched(aside) < before:
                aside.unlink()
                return True
            self._put_back(aside, path)
        return False

    def _return(self, aside: Path, kept: set[str], before: float) -> None:
        """Settle what a sweep that was killed left aside."""
        with suppress(FileNotFoundError):
            if aside.stem in kept:
                self._put_back(aside, place(self._objects, aside.stem))
            elif _touched(aside) < before:
                aside.unlink()

    @staticmethod
    def _put_back(aside: Path, path: Path) -> None:
        # Durable first: it may take the place of a file with the same bytes that is promised.
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.rename(path)
        sync_folder(path.parent)

    def _now(self) -> float:
        """Return the time by which the disk dates its files."""
        probe = self._incoming / f"{uuid.uuid4().hex}.part"
        probe.touch(exist_ok=False)
        try:
            return probe.stat().st_mtime
        finally:
            probe.unlink()

    def sizes(self) -> dict[str, int]:
        """Return the size in bytes of every kept file, by digest."""
        found = {}
        for path in self._objects.glob("*/*"):
            with suppress(FileNotFoundError):  # freed meanwhile
                found[path.name] = path.stat().st_size
        return found


def _touched(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def _flush(file: int, folder: Path) -> None:
    os.fsync(file)
    sync_folder(folder)


def _begun(incoming: Path) -> tuple[FileIO, Path]:
    """Return a new file, open for writing, and where it can be read meanwhile."""
    file = _unnamed(incoming)
    if file is not None:
        return file, _opened_at(file)
    path = incoming / f"{uuid.uuid4().hex}.part"
    return path.open("xb", buffering=0), path


def _unnamed(incoming: Path) -> FileIO | None:
    """Return a new file without a name, None where the disk has none or refuses it."""
    if os.path.exists(_OPEN_FILES):  # noqa: PTH110 - a third of the time
        with suppress(OSError):  # no such files there, as on NFS; what else is wrong the next try says
            return FileIO(os.open(incoming, os.O_TMPFILE | os.O_WRONLY, _MODE), "w")
    return None


def _opened_at(file: FileIO) -> Path:
    return _OPEN_FILES / str(file.fileno())


def _close_all(files: "deque[FileIO]") -> None:
    for file in files:
        file.close()


def _link(path: Path, target: Path) -> None:
    """Give a file that is open another name."""
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Named so that the link of /proc is followed: the C library's link() does not.
        os.link(path, target.name, dst_dir_fd=folder)
    finally:
        os.close(folder)


def whole(path: Path) -> bool:
    """Return whether the bytes have the digest that the file is named by.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == path.name


def place(objects: Path, digest: str) -> Path:
    """Return the path of a digest: one folder per first byte."""
    return objects / digest[:2] / digest


def sync_folder(folder: Path) -> None:
    """Have the disk hold a folder's names."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
