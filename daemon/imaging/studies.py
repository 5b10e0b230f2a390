"""Files that somebody has, as studies."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from daemon.domain.instance import Instance, Series
from daemon.errors import RefusedError
from daemon.imaging.facts import Stored, read_facts


@dataclass(frozen=True, kw_only=True)
class StudyFiles:
    """The instances of one Study Instance UID and where they lie, by SOP Instance UID."""

    uid: str
    files: Mapping[str, tuple[Instance, Path]]

    @property
    def instances(self) -> list[Instance]:
        """Return the instances."""
        return [instance for instance, _ in self.files.values()]

    def paths(self, series: Series) -> list[Path]:
        """Return the files of one of the study's series."""
        return [self.files[i.sop_instance_uid][1] for i in series.instances]


def grouped(paths: Iterable[Path]) -> tuple[list[StudyFiles], int]:
    """Return the studies in files and folders, ordered by UID, and how many files are no DICOM instance.

    Of two files with the same SOP Instance UID the first counts.
    """
    found: dict[str, dict[str, tuple[Instance, Path]]] = {}
    unreadable = 0
    for path in _files(paths):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        stored = Stored(digest=digest, size=path.stat().st_size, received_at=datetime.now(tz=UTC), patient_salt=b"")
        try:
            instance = read_facts(path, stored)
        except RefusedError:
            unreadable += 1
            continue
        found.setdefault(instance.study_instance_uid, {}).setdefault(instance.sop_instance_uid, (instance, path))
    return [StudyFiles(uid=uid, files=files) for uid, files in sorted(found.items())], unreadable


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        yield from sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
