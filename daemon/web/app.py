"""The console's application."""

import logging
from collections.abc import Mapping
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from fastapi.telemetry import TelemetryConfig
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from daemon.bootstrap import House
from daemon.errors import OverreadError
from daemon.web import actions, beside, health, insight, login, pages, predict, qido, schema, viewer, wado
from daemon.web.answer import Fault
from daemon.web.console import Console
from daemon.web.guard import DICOMWEB, LIVE, LoginNeededError, console_of, visitor_of
from daemon.web.neighbours import Neighbours
from daemon.web.predict import API
from daemon.web.shield import Shield
from daemon.web.view import FOLDER, page

LOGGER = logging.getLogger(__name__)
# FastAPI's own would write messages of exceptions, and send them where a variable of the environment says.
_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}


def create_app(house: House) -> FastAPI:
    """Return the console of a house."""
    app = FastAPI(title="Overread", docs_url=None, redoc_url=None, openapi_url=None, telemetry=_TELEMETRY)
    app.state.console = Console.of(house)
    for part in (health, predict, schema):
        app.include_router(part.router)
    for part in (login, pages, insight, actions, beside, viewer, qido, wado):
        app.include_router(part.router, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=FOLDER / "static"))
    app.add_middleware(Shield)
    app.add_middleware(Neighbours, origins=house.settings.web.origins)
    app.add_exception_handler(LoginNeededError, _ask_login)
    app.add_exception_handler(HTTPException, _say_why)
    app.add_exception_handler(RequestValidationError, _not_understood)
    app.add_exception_handler(OverflowError, _not_understood)
    for fault in (SQLAlchemyError, OverreadError):
        app.add_exception_handler(fault, _no_ledger)
    app.add_exception_handler(Exception, _unforeseen)
    return app


async def _ask_login(request: Request, _error: Exception) -> Response:
    if _by_program(request):
        return _fault("a bearer token, or a login, is needed", 401, {"WWW-Authenticate": "Bearer"})
    if request.url.path.startswith(LIVE):
        return Response(status_code=401, headers={"HX-Redirect": "/login"})
    if request.method != "GET":
        return RedirectResponse("/login", status_code=303)
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"/login?to={quote(wanted)}", status_code=303)


async def _not_understood(request: Request, _error: Exception) -> Response:
    if _by_program(request):
        return _fault("a UID or a number in the address is none", 400)
    return page(request, None, "fault.html", {"why": "The address is none of this console's."}, 400)


async def _no_ledger(request: Request, error: Exception) -> Response:
    LOGGER.error("a page could not be made", exc_info=error)
    why = "The ledger is not reached, or something else is not well; `overread doctor` says what."
    if _by_program(request):
        return _fault(why, 503)
    return page(request, None, "fault.html", {"why": why}, 503)


async def _unforeseen(request: Request, error: Exception) -> Response:
    """Tell of an error by its class and place, which the server's own log would tell with what it was about."""
    LOGGER.error("an unexpected error", exc_info=error)
    why = "This should not have happened; the log says where it did."
    if _by_program(request):
        return _fault(why, 500)
    return page(request, None, "fault.html", {"why": why}, 500)


def _say_why(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    why = error.detail if isinstance(error, HTTPException) else ""
    if _by_program(request):
        return _fault(why, status, error.headers if isinstance(error, HTTPException) else None)
    return page(request, visitor_of(request, console_of(request)), "fault.html", {"why": why}, status)


def _by_program(request: Request) -> bool:
    return request.url.path.startswith(f"{DICOMWEB}/") or request.url.path in API


def _fault(why: str, status: int, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(Fault(error=why, reason="").model_dump(), status, headers)
