"""Who is asking, and whether they may: sessions, roles, tokens against forged requests."""

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import Depends, HTTPException, Request
from starlette.responses import Response

from daemon.domain.console import ConsoleUser, Role
from daemon.ledger.sessions import Session, Sessions
from daemon.web.console import Console

DICOMWEB = "/dicomweb"
LIVE = "/live/"  # what pages ask for by themselves
_NOTED_EVERY = timedelta(minutes=1)
_MOST_FORM_BYTES = 1 << 16
_MOST_FIELDS = 32
_FORM_SECONDS = 30.0


class LoginNeededError(Exception):
    """Nobody is logged in, or no longer."""


@dataclass(frozen=True, kw_only=True)
class Visitor:
    """Somebody who is logged in; `csrf` stands in each of their forms."""

    name: str
    role: Role
    csrf: str
    address: str
    session: str

    def may(self, role: str) -> bool:
        """Return whether they may do what `role` may."""
        return self.role.covers(Role(role))


@dataclass(frozen=True, kw_only=True)
class Posted:
    """A form that somebody sent from a page of ours."""

    visitor: Visitor
    fields: dict[str, str]


def console_of(request: Request) -> Console:
    """Return what the pages share."""
    found: Console = request.app.state.console
    return found


async def _here(request: Request) -> Console:
    # In the loop, not in a thread: there may be none left.
    return console_of(request)


Here = Annotated[Console, Depends(_here)]


def address_of(request: Request) -> str:
    """Return where a request came from, by the proxy's word where there is one."""
    return request.client.host if request.client else ""


def visitor_of(request: Request, console: Console) -> Visitor | None:
    """Return who is logged in; a page that refreshes itself does not make a session last."""
    token = request.cookies.get(_cookie(request), "")
    if not token:
        return None
    sessions, now = Sessions(console.house.engine), console.house.clock.now()
    session = sessions.get(_digest(token))
    user = session and _user_of(session, console)
    if session is None or not user:
        return None
    section = console.house.settings.web
    idle, whole = timedelta(minutes=section.idle_minutes), timedelta(hours=section.session_hours)
    if now - session.used_at >= idle or now - session.began_at >= whole:
        sessions.end(session.digest)
        return None
    if not request.url.path.startswith(LIVE) and now - session.used_at >= min(_NOTED_EVERY, idle / 4):
        sessions.used(session.digest, now)
    csrf = hmac.new(token.encode(), b"csrf", hashlib.sha256).hexdigest()
    return Visitor(name=user.name, role=user.role, csrf=csrf, address=address_of(request), session=session.digest)


def asking(request: Request, console: Here) -> Visitor:
    """Return who asks by session or by bearer token; every role may."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        found = next((one for one in console.house.settings.web.token_list if one.fits(token.strip())), None)
        if found is None:
            raise LoginNeededError
        return Visitor(name=f"token:{found.name}", role=found.role, csrf="", address=address_of(request), session="")
    visitor = visitor_of(request, console)
    if visitor is None:
        raise LoginNeededError
    return visitor


def allowed(role: Role) -> Callable[..., Visitor]:
    """Return the dependency that lets in who has at least `role`."""

    def visitor(request: Request, console: Here) -> Visitor:
        found = visitor_of(request, console)
        if found is None:
            raise LoginNeededError
        if not found.role.covers(role):
            raise HTTPException(403, f"This is for the role {role.value}; yours is {found.role.value}.")
        return found

    return visitor


async def form_of(request: Request) -> dict[str, str]:
    """Return a form's fields.

    Raises:
        HTTPException: it is no form, larger than any of ours, or too slow.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(_FORM_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > _MOST_FORM_BYTES:
                    raise HTTPException(413, "The form is too large.")
    except TimeoutError as error:
        raise HTTPException(408, "The form took too long to come.") from error
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError as error:
        raise HTTPException(400, "This is no form of this console.") from error


def posting(role: Role) -> Callable[..., Posted]:
    """Return the dependency that takes a form from who has at least `role`."""

    def posted(
        visitor: Annotated[Visitor, Depends(allowed(role))], fields: Annotated[dict[str, str], Depends(form_of)]
    ) -> Posted:
        if not hmac.compare_digest(fields.get("csrf", "").encode(), visitor.csrf.encode()):
            raise HTTPException(403, "The form is not of this session; load the page again.")
        return Posted(visitor=visitor, fields=fields)

    return posted


def begin(request: Request, answer: Response, console: Console, user: ConsoleUser) -> None:
    """Log somebody in: a new session, whatever cookie came."""
    token, now = secrets.token_urlsafe(32), console.house.clock.now()
    section = console.house.settings.web
    session = Session(digest=_digest(token), user=user.name, entry=_digest(str(user)), began_at=now, used_at=now)
    Sessions(console.house.engine).begin(session, now - timedelta(minutes=section.idle_minutes), section.sessions_each)
    seconds = round(section.session_hours * 3600)
    secure = request.url.scheme == "https"
    answer.set_cookie(_cookie(request), token, max_age=seconds, secure=secure, httponly=True, samesite="lax")


def end(request: Request, answer: Response, console: Console, visitor: Visitor) -> None:
    """Log somebody out."""
    Sessions(console.house.engine).end(visitor.session)
    answer.delete_cookie(_cookie(request), secure=request.url.scheme == "https", httponly=True, samesite="lax")


def _user_of(session: Session, console: Console) -> ConsoleUser | None:
    """Return a session's user, whose entry must still be what it was: role and password."""
    users = (user for user in console.house.settings.web.user_list if user.name == session.user)
    return next((user for user in users if hmac.compare_digest(_digest(str(user)), session.entry)), None)


def _cookie(request: Request) -> str:
    # The prefix lets browsers take it by HTTPS from this very host alone (RFC 6265bis 4.1.3.2).
    return "__Host-overread" if request.url.scheme == "https" else "overread"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
