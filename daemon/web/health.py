"""For machines: whether the process lives, whether the daemon is ready, and its figures."""

import hmac
from collections.abc import Callable
from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError

from daemon.bootstrap import House
from daemon.errors import OverreadError
from daemon.web.console import Console
from daemon.web.guard import Here, visitor_of
from daemon.web.metrics import exposition

router = APIRouter()


class Health(BaseModel):
    """That the console answers."""

    status: Literal["ok"]
    models_loaded: list[str] = Field(description="Models that are in memory for Try it: none before its first use.")


class Readiness(BaseModel):
    """Whether studies can come in and be read, part by part."""

    ready: bool
    ledger: bool
    models: bool
    listener: bool


@router.get("/healthz", response_model=Health)
async def healthz(console: Here) -> JSONResponse:
    """Tell that this process lives and answers, and which models it has at hand; nothing is looked up for it."""
    return JSONResponse(Health(status="ok", models_loaded=console.desk.loaded).model_dump())


@router.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness, "description": "Not ready."}})
def readyz(console: Here) -> JSONResponse:
    """Tell whether studies can come in and be read, part by part; 503 where they cannot. Causes are for `doctor`."""
    checks: dict[str, Callable[[], object]] = {
        "ledger": lambda: migrated(console.house),
        "models": console.shelf.bundles,
        "listener": console.listening,
    }
    found = {name: _well(check) for name, check in checks.items()}
    ready = all(found.values())
    return JSONResponse({"ready": ready, **found}, status_code=200 if ready else 503)


def migrated(house: House) -> bool:
    """Return that the ledger is reached and whole.

    Raises:
        FatalError: it is not.
    """
    house.ready()
    return True


def _well(check: Callable[[], object]) -> bool:
    try:
        return bool(check())
    except (OverreadError, SQLAlchemyError, OSError):
        return False


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={401: {"content": {"text/plain": {}}, "description": "Neither the token nor a login."}},
    openapi_extra={"security": [{"bearer": []}]},
)
def metrics(request: Request, console: Here) -> Response:
    """Give the figures to who has the token of `web.metrics_token_file`, or is logged in."""
    if not _token_shown(request, console) and visitor_of(request, console) is None:
        challenge = {"WWW-Authenticate": "Bearer"}
        return PlainTextResponse("a bearer token, or a login, is needed\n", status_code=401, headers=challenge)
    return Response(exposition(console), media_type=CONTENT_TYPE_LATEST)


def _token_shown(request: Request, console: Console) -> bool:
    file = console.house.settings.web.metrics_token_file
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if file is None or kind.lower() != "bearer":
        return False
    try:
        wanted = file.read_bytes().strip()
    except OSError:
        return False
    return bool(wanted) and hmac.compare_digest(token.strip().encode(), wanted)
