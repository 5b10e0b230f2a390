"""WADO-RS (PS3.18 10.4): what is in the spool, as it was received or made, streamed."""

import hashlib
import json
import logging
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Path, Request
from fastapi.responses import Response, StreamingResponse
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian

from daemon.errors import OverreadError
from daemon.ledger.holdings import Holding, Holdings, Wanted
from daemon.spool.store import Spool
from daemon.web import record
from daemon.web.accept import DICOM, DICOM_JSON, OCTETS, among, syntaxes
from daemon.web.console import Console
from daemon.web.guard import DICOMWEB, Here, Visitor, asking
from daemon.web.objects import document, frame_of, header_of, jpeg, picture_of, png

LOGGER = logging.getLogger(__name__)
router = APIRouter(prefix=DICOMWEB)
Asks = Annotated[Visitor, Depends(asking)]
Uid = Annotated[str, Path(pattern=r"^[0-9.]{1,64}$")]
Frames = Annotated[str, Path(pattern=r"^[0-9]{1,6}(,[0-9]{1,6}){0,999}$")]
STUDY = "/studies/{study}"
SERIES = f"{STUDY}/series/{{series}}"
INSTANCE = f"{SERIES}/instances/{{instance}}"
_CHUNK = 1 << 18
# Frames are decoded by so few at a time: each may take some hundred MB.
_DECODING = threading.BoundedSemaphore(2)


class _DamagedError(OverreadError):
    """A file is not what was kept; the answer breaks off, so that nobody takes it for whole."""


def of_study(study: Uid) -> Wanted:
    """Return the study that the address names."""
    return Wanted(study_uid=study)


def of_series(study: Uid, series: Uid) -> Wanted:
    """Return the series that the address names."""
    return Wanted(study_uid=study, series_uid=series)


def of_instance(study: Uid, series: Uid, instance: Uid) -> Wanted:
    """Return the instance that the address names."""
    return Wanted(study_uid=study, series_uid=series, sop_instance_uid=instance)


def _all(request: Request, visitor: Visitor, console: Console, sought: Wanted) -> Response:
    single = bool(sought.sop_instance_uid)
    form = among(request, (DICOM,))
    if not (form.parts or single):
        raise HTTPException(406, f'More than one object comes as multipart/related; type="{DICOM}".')
    holdings = held(console, sought)
    spool, taken = console.house.spool, syntaxes(request, DICOM)
    spool.bring(holding.digest for holding in holdings)
    if not all(spool.path(holding.digest).exists() for holding in holdings):
        raise HTTPException(404, "Not all of that is in the spool any longer.")
    found = [(holding, holding.transfer_syntax_uid) for holding in holdings]
    odd = next((syntax for _, syntax in found if taken and syntax not in taken), "")
    if odd:
        raise HTTPException(406, f"Objects are given as they are kept, here in {odd}; ask with transfer-syntax=*.")
    record.accessed(console, visitor, sought.study_uid)
    if not form.parts:
        holding, syntax = found[0]
        return StreamingResponse(_bytes(spool, holding), media_type=f"{DICOM}; transfer-syntax={syntax}")
    return _multipart(DICOM, [(f"{DICOM}; transfer-syntax={syntax}", _bytes(spool, one)) for one, syntax in found])


def _metadata(request: Request, visitor: Visitor, console: Console, sought: Wanted) -> Response:
    among(request, (DICOM_JSON, "application/json"))
    holdings = held(console, sought)
    record.accessed(console, visitor, sought.study_uid)
    first = document(header_of(console.house.spool, holdings[0]))
    return StreamingResponse(_listed(console.house.spool, first, holdings[1:]), media_type=DICOM_JSON)


@router.get(STUDY)
def study(request: Request, visitor: Asks, console: Here, sought: Annotated[Wanted, Depends(of_study)]) -> Response:
    """Give a study's objects."""
    return _all(request, visitor, console, sought)


@router.get(SERIES)
def series(request: Request, visitor: Asks, console: Here, sought: Annotated[Wanted, Depends(of_series)]) -> Response:
    """Give a series' objects."""
    return _all(request, visitor, console, sought)


@router.get(INSTANCE)
def instance(
    request: Request, visitor: Asks, console: Here, sought: Annotated[Wanted, Depends(of_instance)]
) -> Response:
    """Give an object."""
    return _all(request, visitor, console, sought)


@router.get(f"{STUDY}/metadata")
def study_metadata(
    request: Request, visitor: Asks, console: Here, sought: Annotated[Wanted, Depends(of_study)]
) -> Response:
    """Give the headers of a study's objects."""
    return _metadata(request, visitor, console, sought)


@router.get(f"{SERIES}/metadata")
def series_metadata(
    request: Request, visitor: Asks, console: Here, sought: Annotated[Wanted, Depends(of_series)]
) -> Response:
    """Give the headers of a series' objects."""
    return _metadata(request, visitor, console, sought)


@router.get(f"{INSTANCE}/metadata")
def instance_metadata(
    request: Request, visitor: Asks, console: Here, sought: Annotated[Wanted, Depends(of_instance)]
) -> Response:
    """Give an object's header."""
    return _metadata(request, visitor, console, sought)


@router.get(f"{INSTANCE}/frames/{{numbers}}")
def frames(
    request: Request, visitor: Asks, console: Here, numbers: Frames, sought: Annotated[Wanted, Depends(of_instance)]
) -> Response:
    """Give frames as pixels that are not compressed."""
    form = among(request, (OCTETS,))
    taken = syntaxes(request, OCTETS)
    if taken and ExplicitVRLittleEndian not in taken:
        raise HTTPException(406, f"Frames are given in {ExplicitVRLittleEndian}.")
    chosen = [int(number) for number in numbers.split(",")]
    holding = held(console, sought)[0]
    record.accessed(console, visitor, sought.study_uid)
    spool, kind = console.house.spool, f"{OCTETS}; transfer-syntax={ExplicitVRLittleEndian}"
    # The first one now: what is wrong with the object or a number is then said by a status.
    first = _decode(lambda: frame_of(spool, holding, chosen[0]))
    if len(chosen) > 1:
        _decode(lambda: frame_of(spool, holding, max(chosen)))
    if not form.parts:
        if len(chosen) > 1:
            raise HTTPException(406, f'More than one frame comes as multipart/related; type="{OCTETS}".')
        return Response(first, media_type=kind)
    parts = [(kind, iter((first,))), *((kind, _frame(spool, holding, number)) for number in chosen[1:])]
    return _multipart(OCTETS, parts)


@router.get(f"{INSTANCE}/rendered")
def rendered(
    request: Request, visitor: Asks, console: Here, sought: Annotated[Wanted, Depends(of_instance)]
) -> Response:
    """Give an object's first frame as a picture."""
    return _rendered(request, visitor, console, (sought, 1))


@router.get(f"{INSTANCE}/frames/{{number}}/rendered")
def rendered_frame(
    request: Request, visitor: Asks, console: Here, number: int, sought: Annotated[Wanted, Depends(of_instance)]
) -> Response:
    """Give a frame as a picture."""
    return _rendered(request, visitor, console, (sought, number))


def _rendered(request: Request, visitor: Visitor, console: Console, which: tuple[Wanted, int]) -> Response:
    encoders: dict[str, Callable[[Image.Image], bytes]] = {"image/jpeg": jpeg, "image/png": png}
    kind = among(request, tuple(encoders)).media
    sought, number = which
    holding = held(console, sought)[0]
    record.accessed(console, visitor, sought.study_uid)
    with _DECODING:
        return Response(encoders[kind](picture_of(console.house.spool, holding, number)), media_type=kind)


def held(console: Console, sought: Wanted) -> list[Holding]:
    """Return what the spool has of it.

    Raises:
        HTTPException: nothing (404).
    """
    found = Holdings(console.house.engine).objects(sought)
    if not found:
        raise HTTPException(404, "Nothing of that is in the spool.")
    return found


def _bytes(spool: Spool, holding: Holding) -> Iterator[bytes]:
    """Yield a file; one whose bytes are not those that were kept breaks the answer off before its last part."""
    taken, last = hashlib.sha256(), b""
    with spool.path(holding.digest).open("rb") as file:
        while chunk := file.read(_CHUNK):
            taken.update(chunk)
            yield last
            last = chunk
    if taken.hexdigest() != holding.digest:
        LOGGER.error("%s is damaged in the spool", holding.sop_instance_uid)
        raise _DamagedError(f"{holding.sop_instance_uid} is damaged in the spool; send its study again")
    yield last


def _frame(spool: Spool, holding: Holding, number: int) -> Iterator[bytes]:
    yield _decode(lambda: frame_of(spool, holding, number))


def _decode(make: Callable[[], bytes]) -> bytes:
    with _DECODING:
        return make()


def _multipart(kind: str, parts: Sequence[tuple[str, Iterator[bytes]]]) -> Response:
    boundary = uuid.uuid4().hex
    media = f'multipart/related; type="{kind}"; boundary={boundary}'
    return StreamingResponse(_joined(boundary, parts), media_type=media)


def _joined(boundary: str, parts: Sequence[tuple[str, Iterator[bytes]]]) -> Iterator[bytes]:
    for kind, content in parts:
        yield f"--{boundary}\r\nContent-Type: {kind}\r\n\r\n".encode()
        yield from content
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def _listed(spool: Spool, first: dict[str, object], others: Sequence[Holding]) -> Iterator[bytes]:
    yield b"[" + json.dumps(first).encode()
    for holding in others:
        yield b"," + json.dumps(document(header_of(spool, holding))).encode()
    yield b"]"
