"""What every answer carries, and what no request may be, whichever page it is for."""

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

STATIC = "/static/"
_SAFE = frozenset({"GET", "HEAD"})
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
# Where answers hold the pictures that they show, because those are kept nowhere.
_INLINE = "/try"
_INLINE_POLICY = _POLICY.replace("img-src 'self'", "img-src 'self' data:")
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not "no-referrer": browsers would then send `Origin: null` with our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Shield:
    """Sets the headers of security, refuses what comes from another site, and plain text from another machine."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        secure = scope["scheme"] == "https"

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if scope["path"] == _INLINE:
                    headers["Content-Security-Policy"] = _INLINE_POLICY
                headers.setdefault("Cache-Control", "max-age=3600" if scope["path"].startswith(STATIC) else "no-store")
                if secure:
                    headers["Strict-Transport-Security"] = "max-age=31536000"
            await send(message)

        fault = _fault(scope, secure=secure)
        answer = PlainTextResponse(fault, status_code=403) if fault else self._app
        await answer(scope, receive, sealed)


def _fault(scope: Scope, *, secure: bool) -> str:
    if not secure and not _loopback(scope):
        return "The console is for HTTPS. If a reverse proxy speaks it for us, let it send X-Forwarded-Proto.\n"
    headers = Headers(scope=scope)
    origin = headers.get("origin")
    if scope["method"] not in _SAFE and origin is not None and urlsplit(origin).netloc != headers.get("host"):
        return "This came from another site. A reverse proxy must leave the Host header as it is.\n"
    return ""


def _loopback(scope: Scope) -> bool:
    client = scope.get("client")
    try:
        return client is not None and ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False
