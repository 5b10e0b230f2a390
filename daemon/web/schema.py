"""The OpenAPI schema of what machines ask of the console; pages for people and DICOMweb are not in it."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse

from daemon import __version__
from daemon.web.predict import Asks

router = APIRouter(include_in_schema=False)
_ABOUT = "Of a hospital's own machine, for research use only. Bearer tokens are made by `overread web-token`."
_BEARER = {"type": "http", "scheme": "bearer"}


@router.get("/openapi.json")
def schema(request: Request, visitor: Asks) -> JSONResponse:
    """Give the schema to who is logged in or has a token."""
    del visitor
    return JSONResponse(document(request.app.routes))


def document(routes: Any) -> dict[str, Any]:  # noqa: ANN401 - Starlette's routes of all kinds
    """Return the schema of `routes`."""
    made = get_openapi(title="Overread", version=__version__, summary="Console", description=_ABOUT, routes=routes)
    made.setdefault("components", {})["securitySchemes"] = {"bearer": _BEARER}
    return made
