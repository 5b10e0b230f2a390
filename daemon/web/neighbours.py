"""Viewers of other sites: which of them a browser may let ask DICOMweb (CORS); no page of the console, ever."""

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from daemon.web.guard import DICOMWEB


class Neighbours:
    """Answers preflights and marks answers for the configured sites; cookies do not cross, a bearer token does."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self._app = app
        self._open = CORSMiddleware(
            app, allow_origins=list(origins), allow_methods=["GET"], allow_headers=["Accept", "Authorization"]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        ours = scope["type"] == "http" and scope["path"].startswith(f"{DICOMWEB}/")
        await (self._open if ours else self._app)(scope, receive, send)
