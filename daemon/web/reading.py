"""The process that reads uploads, `python -m daemon.web.reading`: what is hostile or slow stays out of the console.

`Terms` is its argument, as JSON. A `Wish` at a time comes as a line of standard input, and what is `Said` goes as one
of standard output. It ends when its input does, when nothing was asked for a while, or when a model was changed
under it; models are loaded when first needed, and stay.
"""

import os
import select
import signal
import sys
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel

from daemon import log
from daemon.domain.provider import Provider
from daemon.domain.reasons import Reason
from daemon.errors import FatalError, OverreadError, RefusedError, UnprocessableError
from daemon.imaging.brought import UnknownKindError
from daemon.inference.bundle import needed
from daemon.inference.predictor import Asked, Mode, Predictor
from daemon.inference.reader import BundleReader
from daemon.runtime import cap_memory, end_first
from daemon.web.answer import Fault, PredictionAnswer, answer_of

IDLE_SECONDS = 900.0
# Studies that came by themselves go first.
_NICE = 10


class Terms(BaseModel):
    """What the reading process works with, as the console's settings have it."""

    models: Path
    threads: int
    passes: int | None
    provider: Provider
    trusted_keys: tuple[Path, ...]
    memory_mb: int
    research_use: bool


class Wish(BaseModel):
    """An upload that is to be read; temporary files go into `folder`, which the console removes."""

    path: Path
    folder: Path
    mode: Mode = Mode.FULL
    model: str = ""
    pixel_spacing_mm: float | None = None


class Said(BaseModel):
    """What came of it: an answer, or a fault with its HTTP status.

    `study` and `place` are for the audit trail and the log: the Study Instance UID, and where our code failed.
    """

    answer: PredictionAnswer | None = None
    fault: Fault | None = None
    status: int = 200
    study: str = ""
    place: str = ""


def main() -> None:
    """Read what is asked for until there is nothing more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the console ends us
    log.hush()
    os.nice(_NICE)
    end_first()
    lines, answers = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    terms = Terms.model_validate_json(sys.argv[1])
    cap_memory(terms.memory_mb)
    # From here on libraries meet what was uploaded, and would print of it.
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a device
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere.fileno(), stream.fileno())
    work = Work(terms)
    while wish := _next(lines):
        said = work.read(Wish.model_validate_json(wish))
        answers.write(said.model_dump_json().encode() + b"\n")
        answers.flush()
        if said.fault and said.fault.reason == Reason.MODEL:
            return


def _next(lines: BinaryIO) -> bytes:
    # Nothing is buffered: the next wish comes after the answer to the one before.
    ready, _, _ = select.select([lines], [], [], IDLE_SECONDS)
    return lines.readline() if ready else b""


class Work:
    """Makes answers of wishes, whatever happens."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._reader: BundleReader | None = None

    def read(self, wish: Wish) -> Said:
        """Return the answer, or why there is none."""
        try:
            return self._read(wish)
        except (OverreadError, MemoryError) as error:
            return _refusal(error)
        except Exception as error:  # noqa: BLE001 - the edge of the loop: told by class and place, words may quote the upload
            where = f"{type(error).__name__} at {log.place(error.__traceback__)}"
            return Said(fault=Fault(error="The image could not be read; the log says where."), status=500, place=where)

    def _read(self, wish: Wish) -> Said:
        terms = self._terms
        if self._reader is None:
            bundles = needed(terms.models, terms.trusted_keys)
            self._reader = BundleReader(bundles, threads=terms.threads, passes=terms.passes, provider=terms.provider)
        predictor = Predictor(self._reader, wish.folder, research_use=terms.research_use)
        asked = Asked(model=wish.model, pixel_spacing_mm=wish.pixel_spacing_mm)
        found = (predictor.single if wish.mode is Mode.SINGLE else predictor.full)(wish.path, asked)
        return Said(answer=answer_of(found), study=found.study)


def _refusal(error: OverreadError | MemoryError) -> Said:
    if isinstance(error, MemoryError):
        words = "it needs more memory than a reading process may have (inference.memory_mb)"
        return Said(fault=Fault(error=_sentence(words), reason=Reason.TOO_LARGE), status=422)
    reason = error.reason if isinstance(error, UnprocessableError) else ""
    statuses = {UnknownKindError: 415, RefusedError: 422, UnprocessableError: 422, FatalError: 503}
    status = next((status for kind, status in statuses.items() if isinstance(error, kind)), 500)
    return Said(fault=Fault(error=_sentence(str(error)), reason=reason), status=status)


def _sentence(words: str) -> str:
    whole = words[:1].upper() + words[1:]
    return whole if whole.endswith(".") else f"{whole}."


if __name__ == "__main__":
    main()
