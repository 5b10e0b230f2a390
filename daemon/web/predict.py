"""Try it: one image that somebody uploads, read at once and forgotten; and what the models are, for machines."""

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.concurrency import contextmanager_in_threadpool
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from daemon.domain.console import Role
from daemon.errors import OverreadError
from daemon.web import record
from daemon.web.answer import Fault, PredictionAnswer
from daemon.web.cards import BundleInfo, info_of
from daemon.web.console import Console
from daemon.web.desk import BusyError, OverdueError
from daemon.web.guard import Here, Visitor, allowed, asking
from daemon.web.reading import Said
from daemon.web.upload import Limits, Upload, received
from daemon.web.view import page

router = APIRouter()
API = frozenset({"/predict_multitask", "/model/info", "/openapi.json", "/healthz", "/readyz", "/metrics"})
Operator = Annotated[Visitor, Depends(allowed(Role.OPERATOR))]
Asks = Annotated[Visitor, Depends(asking)]
_RETRY_SECONDS = "30"
FAULTS = {
    400: "It is no form with one file.",
    401: "Neither a session nor a token that is known.",
    403: "The role is not enough, the form is of another session, or Try it is switched off.",
    408: "The upload took too long.",
    413: "The upload is too large.",
    415: "No multipart form, or a file of a kind that is not read.",
    422: "A field is wrong, or the image cannot be read; `reason` is coded where no model takes it.",
    500: "An error of ours; the log says where.",
    503: "Other images are being read, or no model can be loaded.",
    504: "Reading took longer than `web.try_seconds`.",
}
_FORM = {
    "type": "object",
    "additionalProperties": False,
    "required": ["image"],
    "properties": {
        "image": {
            "type": "string",
            "format": "binary",
            "description": "A PNG or JPEG of one axial slice, a NIfTI volume (.nii, .nii.gz) or a zip of the DICOM "
            "files of one study; told apart by its first bytes.",
        },
        "mode": {
            "type": "string",
            "enum": ["full", "single"],
            "description": "full (the default): all passes, with spread, uncertainty and activation; single: one pass.",
        },
        "model": {"type": "string", "description": "A bundle's name; left out, the image decides."},
        "pixel_spacing_mm": {
            "type": "number",
            "minimum": 0.01,
            "maximum": 10,
            "description": "Distance of neighbouring pixels of a PNG or JPEG in mm, the same both ways. Left out, the "
            "longer side is taken to span 240 mm, and nothing is given in mm.",
        },
        "csrf": {"type": "string", "description": "Token of the session's forms; not with a bearer token."},
    },
}


def responses(*statuses: int) -> dict[int | str, dict[str, object]]:
    """Return how the schema documents faults."""
    return {status: {"model": Fault, "description": FAULTS[status]} for status in statuses}


def operating(visitor: Asks) -> Visitor:
    """Return who may have an image read, by session or bearer token."""
    if not visitor.may(Role.OPERATOR):
        raise HTTPException(403, f"This is for the role {Role.OPERATOR.value}; yours is {visitor.role.value}.")
    return visitor


@router.post(
    "/predict_multitask",
    response_model=PredictionAnswer,
    responses=responses(*FAULTS),
    openapi_extra={
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}},
        "security": [{"bearer": []}],
    },
)
async def predict_multitask(
    request: Request, visitor: Annotated[Visitor, Depends(operating)], console: Here
) -> Response:
    """Read one image: tumour probability, outline, pictures. Nothing of it is kept. Research use only."""
    said = await _tried(request, visitor, console)
    if said.answer is None:
        return JSONResponse((said.fault or Fault(error="", reason="")).model_dump(), said.status)
    return Response(said.answer.model_dump_json(), media_type="application/json")


@router.get("/try", include_in_schema=False)
def ask(request: Request, visitor: Operator, console: Here) -> Response:
    """Ask for an image."""
    return _page(request, visitor, console, None)


@router.post("/try", include_in_schema=False)
async def tried(request: Request, visitor: Operator, console: Here) -> Response:
    """Read an image and show what came of it."""
    try:
        said = await _tried(request, visitor, console)
    except HTTPException as error:
        said = Said(fault=Fault(error=str(error.detail), reason=""), status=error.status_code)
    return await run_in_threadpool(_page, request, visitor, console, said)


@router.get(
    "/model/info",
    responses=responses(401, 503),
    openapi_extra={"security": [{"bearer": []}]},
)
def model_info(visitor: Asks, console: Here) -> list[BundleInfo]:
    """Tell what each installed model is: version, digest, thresholds, figures of its card."""
    del visitor
    try:
        return [info_of(bundle) for bundle in console.shelf.bundles()]
    except OverreadError as error:
        raise HTTPException(503, str(error)) from error


async def _tried(request: Request, visitor: Visitor, console: Console) -> Said:
    desk, seconds = console.desk, console.house.settings.web.try_seconds
    if not desk.most_bytes:
        raise HTTPException(403, "Try it is switched off here (web.try_mb = 0).")
    try:
        async with contextmanager_in_threadpool(desk.place()) as folder:
            upload = await received(request, visitor, folder, Limits(size=desk.most_bytes, seconds=seconds))
            return await run_in_threadpool(_read, console, visitor, upload)
    except BusyError as error:
        raise HTTPException(503, str(error), {"Retry-After": _RETRY_SECONDS}) from error
    except OverdueError as error:
        raise HTTPException(504, str(error)) from error


def _read(console: Console, visitor: Visitor, upload: Upload) -> Said:
    """Have an upload read; that it was is recorded, whatever came of it."""
    fault, study = "not read", ""
    try:
        said = console.desk.read(upload.wish)
        fault, study = (f"not read: {said.status}" if said.fault else ""), said.study
        return said
    finally:
        record.tried(console, visitor, upload.digest, (study, fault))


def _page(request: Request, visitor: Visitor, console: Console, said: Said | None) -> Response:
    fault, names = "", list[tuple[str, str]]()
    try:
        names = [(bundle.ref.name, bundle.manifest.title) for bundle in console.shelf.bundles()]
    except OverreadError as error:
        fault = str(error)
    values: dict[str, object] = {
        "models": names,
        "most_mb": console.house.settings.web.try_mb,
        "answer": said.answer if said else None,
        "fault": said.fault.error if said and said.fault else fault,
    }
    return page(request, visitor, "try.html", values, said.status if said else 200)
