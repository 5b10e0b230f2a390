"""Zip archives from people: unpacked within bounds, under names of our own."""

import errno
import lzma
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from daemon.errors import RefusedError

_CHUNK = 1 << 20
# The end of an archive (APPNOTE 4.3.16): its comment may be so long; where its directory's size stands. Just before it
# lies, in a ZIP64, what says where the longer record is (4.3.15).
_END, _END_SIZE, _MOST_COMMENT = b"PK\x05\x06", 22, 0xFFFF
_END64, _END64_SIZE = b"PK\x06\x07", 20
_DIRECTORY_SIZE = slice(12, 16)
# Of one file in the directory, its names and comments with it.
_MOST_ENTRY = 1024
_ENCRYPTED = 0x1
# What `zipfile` raises of an archive that is damaged; an IndexError where a name is empty.
_DAMAGED = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, EOFError, OSError, ValueError, RuntimeError,
    IndexError,
)  # fmt: skip
# An OSError that is the archive's fault and not the disk's: bz2's own, and a place before the file's begin.
_NOT_THE_DISK = (None, errno.EINVAL)


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How many files are unpacked, and how many bytes of all of them together."""

    files: int = 5000
    size: int = 2 << 30


def unpack(archive: Path, folder: Path, bounds: Bounds) -> list[Path]:
    """Write the files of `archive` into `folder`, numbered, and return them; folders are dropped.

    Raises:
        RefusedError: it is no whole archive, holds too much, a name that leads elsewhere, or is locked by a password.
    """
    _check_directory(archive, bounds)
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [one for one in opened.infolist() if not one.is_dir()]
            _check_members(members, bounds)
            left = bounds.size
            written = []
            for number, member in enumerate(members):
                path = folder / f"{number:06d}"
                left -= _write(opened, member, path, left)
                written.append(path)
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno not in _NOT_THE_DISK:
            raise
        raise RefusedError("the zip cannot be read: it is cut off, damaged or packed in a way of its own") from error
    return written


def _check_directory(archive: Path, bounds: Bounds) -> None:
    """Look how long the directory is before it is read whole into memory."""
    size = archive.stat().st_size
    with archive.open("rb") as file:
        file.seek(max(0, size - _END64_SIZE - _END_SIZE - _MOST_COMMENT))
        tail = file.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) < at + _END_SIZE:
        raise RefusedError("the zip is cut off: its end is missing; send it again")
    if _END64 in tail:
        raise RefusedError("the zip is one of more than 4 GB or 65535 files (ZIP64); zip the one series that is meant")
    if int.from_bytes(tail[at:][_DIRECTORY_SIZE], "little") > bounds.files * _MOST_ENTRY:
        raise RefusedError(f"the zip names more than {bounds.files} files; zip the one series that is meant")


def _check_members(members: list[zipfile.ZipInfo], bounds: Bounds) -> None:
    if len(members) > bounds.files:
        raise RefusedError(
            f"the zip holds {len(members)} files, and {bounds.files} are read; zip the one series that is meant"
        )
    for member in members:
        name = PurePosixPath(member.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or stat.S_ISLNK(member.external_attr >> 16):
            raise RefusedError("the zip holds a name or a link that leads out of it; zip the plain folder")
        if member.flag_bits & _ENCRYPTED:
            raise RefusedError("the zip is locked by a password; zip it without")
    if sum(member.file_size for member in members) > bounds.size:
        raise _too_much(bounds.size)


def _write(opened: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, left: int) -> int:
    """Write one file; what its entry says of its size may be a lie, so bytes are counted."""
    size = 0
    with opened.open(member) as source, path.open("xb") as target:
        while chunk := source.read(_CHUNK):
            size += len(chunk)
            if size > left:
                raise _too_much(left)
            target.write(chunk)
    return size


def _too_much(size: int) -> RefusedError:
    return RefusedError(f"the zip unpacks to more than {size >> 20} MB; zip the one series that is meant")
