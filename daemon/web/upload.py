"""Uploads as they come in: a form with one file, bounded in size and time, written where it will be removed."""

import asyncio
import hashlib
import hmac
import math
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

from fastapi import HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from daemon.inference.predictor import Mode
from daemon.web.guard import Visitor
from daemon.web.reading import Wish

FIELDS = frozenset({"image", "mode", "model", "pixel_spacing_mm", "csrf"})
_MOST_FIELDS, _MOST_FIELD_BYTES, _FORM_BYTES = 8, 4096, 1 << 16
# What a pixel of a head may measure.
_LEAST_MM, _MOST_MM = 0.01, 10.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How large an upload may be, in bytes, and how long it may take to come."""

    size: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Upload:
    """An upload, what is asked of it, and its SHA-256."""

    wish: Wish
    digest: str


async def received(request: Request, visitor: Visitor, folder: Path, limits: Limits) -> Upload:
    """Take an upload into `folder`.

    Raises:
        HTTPException: it is too large or too slow, no form of ours, or of another session.
    """
    path = folder / "upload"
    form = await _form(request, path, limits)
    try:
        fields = {name: value for name, value in form.items() if isinstance(value, str)}
        if visitor.session and not hmac.compare_digest(fields.get("csrf", "").encode(), visitor.csrf.encode()):
            raise HTTPException(403, "The form is not of this session; load the page again.")
        if len(form.multi_items()) > len(form) or not FIELDS.issuperset(form):
            named = ", ".join(sorted(FIELDS))
            raise HTTPException(422, f"The form has fields other than {named}, or one of them twice.")
        image = form.get("image")
        if not isinstance(image, UploadFile) or not image.size:
            raise HTTPException(422, "Choose a file: the form's field `image` holds none.")
        digest = await run_in_threadpool(_digest, image, path)
        wish = Wish(
            path=path,
            folder=folder,
            mode=_mode(fields.get("mode", "")),
            model=fields.get("model", ""),
            pixel_spacing_mm=_spacing(fields.get("pixel_spacing_mm", "")),
        )
        return Upload(wish=wish, digest=digest)
    finally:
        await form.close()


class _Parser(MultiPartParser):
    """Writes the file to `path` from its first octet on; starlette would write it where the system keeps such."""

    def __init__(self, request: Request, stream: AsyncGenerator[bytes], path: Path) -> None:
        super().__init__(request.headers, stream, max_files=1, max_fields=_MOST_FIELDS, max_part_size=_MOST_FIELD_BYTES)
        self._path = path

    def on_headers_finished(self) -> None:
        """Begin a part."""
        super().on_headers_finished()
        image = self._current_part.file
        if image is not None:
            image.file.close()
            image.file = self._path.open("x+b")
            self._files_to_close_on_error[-1] = image.file  # type: ignore[call-overload]  # it is closed, no more


async def _form(request: Request, path: Path, limits: Limits) -> FormData:
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise HTTPException(415, "Send a form of type multipart/form-data with the file in its field `image`.")
    too_large = HTTPException(413, f"At most {limits.size >> 20} MB are taken (web.try_mb).")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limits.size + _FORM_BYTES:
        raise too_large

    async def bounded() -> AsyncGenerator[bytes]:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > limits.size + _FORM_BYTES:
                raise too_large
            yield chunk

    try:
        async with asyncio.timeout(limits.seconds):
            return await _Parser(request, bounded(), path).parse()
    except TimeoutError as error:
        raise HTTPException(408, f"The upload took longer than {limits.seconds:g} s (web.try_seconds).") from error
    except (MultiPartException, ClientDisconnect) as error:
        raise HTTPException(400, "This is no form with one file.") from error


def _digest(image: UploadFile, path: Path) -> str:
    """Return the SHA-256 of what came; all of it is on `path` then."""
    image.file.flush()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _mode(text: str) -> Mode:
    if text not in {"", *Mode}:
        raise HTTPException(422, f"The mode is one of {', '.join(Mode)}.")
    return Mode(text or Mode.FULL)


def _spacing(text: str) -> float | None:
    if not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not _LEAST_MM <= value <= _MOST_MM:
        raise HTTPException(422, f"The pixel spacing is a number of mm from {_LEAST_MM:g} to {_MOST_MM:g}.")
    return value
