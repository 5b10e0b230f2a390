"""Corrections with what they were drawn on, out of the spool into a folder that `training harvest` reads."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.cli.output import plain
from daemon.errors import RefusedError

if TYPE_CHECKING:
    from daemon.ledger.opinions import Bequest, FeedbackView
    from daemon.spool.store import Spool

INDEX = "feedback.json"


def hand_over(spool: "Spool", bequests: "Sequence[Bequest]", words: "Sequence[FeedbackView]", out: Path) -> list[int]:
    """Write a folder for each correction, and an index of all with people's `words`; return the corrections' ids.

    For nobody but the owner: images hold what a PACS holds. Files are named by number. A correction whose own file is
    damaged is left out, and not told as handed over.

    Raises:
        RefusedError: the folder has something in it, or cannot be written.
    """
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise RefusedError(f"{out} is not empty; name a new folder")
        entries = [entry for bequest in bequests if (entry := _written(spool, bequest, out))]
        index = {"corrections": entries, "words": plain(list(words))}
        _write(out / INDEX, json.dumps(index, indent=1).encode())
    except OSError as error:
        raise RefusedError(f"cannot write to {out}: {error.strerror}; name another folder, or free space") from error
    return [int(str(entry["id"])) for entry in entries]


def _written(spool: "Spool", bequest: "Bequest", out: Path) -> dict[str, object]:
    """Write one correction's folder; return its line of the index, empty where it could not be read."""
    view = bequest.view
    if view.digest is None or not spool.sound(view.digest):
        return {}
    folder = out / f"feedback-{view.id}"
    folder.mkdir(mode=0o700)
    lacking = bequest.freed
    for name, digest in _files(bequest):
        if spool.sound(digest):
            _write(folder / name, spool.path(digest).read_bytes())
        else:
            lacking += 1
    return {**plain(view), "folder": folder.name, "lacking": lacking}


def _files(bequest: "Bequest") -> Iterator[tuple[str, str]]:
    """Yield names and digests."""
    yield "corrected.dcm", str(bequest.view.digest)
    if bequest.ours:
        yield "ours.dcm", bequest.ours
    for number, instance in enumerate(bequest.instances, 1):
        yield f"image-{number:05}.dcm", instance.digest


def _write(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
