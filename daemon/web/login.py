"""In and out."""

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response

from daemon.domain.console import Role
from daemon.web import record
from daemon.web.guard import Here, Posted, address_of, begin, end, form_of, posting, visitor_of
from daemon.web.view import page

router = APIRouter()
_UNKNOWN = "unknown"


@router.get("/login")
def ask(request: Request, console: Here, to: str = "/") -> Response:
    """Ask for name and password."""
    if visitor_of(request, console):
        return RedirectResponse(_inside(to), status_code=303)
    values = {"to": _inside(to), "fault": "", "users": bool(console.house.settings.web.logins)}
    return page(request, None, "login.html", values)


@router.post("/login")
def login(request: Request, console: Here, fields: Annotated[dict[str, str], Depends(form_of)]) -> Response:
    """Let somebody in, or say that name and password do not fit; not which of the two."""
    address, to = address_of(request), _inside(fields.get("to", "/"))
    users = console.house.settings.web.user_list
    if console.attempts.spent(address):
        return _again(request, to, 429, "Too many attempts failed from here. Wait five minutes.")
    # Counted beforehand, so that attempts at the same time count too.
    console.attempts.failed(address)
    user = console.passwords.proven(users, fields.get("name", ""), fields.get("password", ""))
    if user is None:
        # What stands in for a name may be a password that was typed in the wrong place.
        named = fields.get("name", "") if fields.get("name") in {user.name for user in users} else _UNKNOWN
        record.login(console, named, address, "name and password do not fit")
        return _again(request, to, 401, "Name and password do not fit.")
    console.attempts.succeeded(address)
    answer = RedirectResponse(to, status_code=303)
    begin(request, answer, console, user)
    record.login(console, user.name, address)
    return answer


@router.post("/logout")
def logout(request: Request, console: Here, posted: Annotated[Posted, Depends(posting(Role.VIEWER))]) -> Response:
    """Let somebody out."""
    answer = RedirectResponse("/login", status_code=303)
    end(request, answer, console, posted.visitor)
    record.logout(console, posted.visitor)
    return answer


def _again(request: Request, to: str, status: int, fault: str) -> Response:
    return page(request, None, "login.html", {"to": to, "fault": fault, "users": True}, status)


def _inside(path: str) -> str:
    """Return a path of ours, never another site."""
    try:
        parts = urlsplit(path)
    except ValueError:
        return "/"
    ours = path.startswith("/") and not path.startswith(("//", "/\\")) and not (parts.scheme or parts.netloc)
    return path if ours and path.isprintable() else "/"
