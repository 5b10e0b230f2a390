"""Models, settings, audit: what the daemon is made of and what was done with it."""

import threading
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import Response
from markdown_it import MarkdownIt
from markupsafe import Markup

from daemon.audit.chain import Verdict
from daemon.domain import drift
from daemon.domain.console import Role
from daemon.errors import OverreadError
from daemon.inference.agreement import Agreement, examine
from daemon.inference.bundle import Bundle
from daemon.inference.session import Model
from daemon.ledger.scores import ScoreBook
from daemon.ledger.seconds import Seconds
from daemon.second import shadows
from daemon.web import record
from daemon.web.auditing import newest
from daemon.web.console import Console, Verified
from daemon.web.guard import Here, Posted, Visitor, allowed, posting
from daemon.web.pages import Viewer
from daemon.web.view import page

router = APIRouter()
# A whole model is loaded for it, in the process that answers.
_VERIFYING = threading.Lock()
Operator = Annotated[Posted, Depends(posting(Role.OPERATOR))]
Admin = Annotated[Visitor, Depends(allowed(Role.ADMIN))]
AdminPosts = Annotated[Posted, Depends(posting(Role.ADMIN))]


@router.get("/models")
def models(request: Request, visitor: Viewer, console: Here) -> Response:
    """List the installed bundles."""
    return _models(request, visitor, console)


@router.get("/models/{name}")
def model(request: Request, visitor: Viewer, console: Here, name: str) -> Response:
    """Show a bundle's card."""
    bundle = _bundle(console, name)
    card = bundle.content("card.md").decode()
    # No HTML of its own: a card is text that came with a bundle.
    drawn = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image").render(card)
    # The page has a heading of its own.
    for level in (5, 4, 3, 2, 1):
        drawn = drawn.replace(f"<h{level}>", f"<h{level + 1}>").replace(f"</h{level}>", f"</h{level + 1}>")
    return page(request, visitor, "model.html", {"bundle": bundle, "card": Markup(drawn)})  # noqa: S704 - drawn from text alone


@router.post("/models/{name}/verify")
def verify_model(request: Request, posted: Operator, console: Here, name: str) -> Response:
    """Run a bundle's golden input."""
    if not _VERIFYING.acquire(blocking=False):
        raise HTTPException(503, "A model is being verified. Try again in a minute.", {"Retry-After": "60"})
    try:
        console.verified[name] = _verified(console, name)
    finally:
        _VERIFYING.release()
    return _models(request, posted.visitor, console)


def _verified(console: Console, name: str) -> Verified:
    console.shelf.forget()
    bundle = _bundle(console, name)
    try:
        verdict = examine(Model(bundle, provider=console.house.settings.inference.provider))
    except OverreadError as error:
        verdict = Agreement(ok=False, detail=str(error))
    return Verified(at=console.house.clock.now(), digest=bundle.ref.digest, ok=verdict.ok, detail=verdict.detail)


def _models(request: Request, visitor: Visitor, console: Console) -> Response:
    bundles: tuple[Bundle, ...] = ()
    fault = ""
    try:
        bundles = tuple(console.shelf.bundles())
    except OverreadError as error:
        fault = str(error)
    book = ScoreBook(console.house.engine)
    values: dict[str, object] = {
        "bundles": bundles,
        "fault": fault,
        "verified": console.verified,
        "drifts": {one.ref.digest: book.drift(one.ref.digest, one.manifest.spreads) for one in bundles},
        "limits": drift,
        "shadows": _shadows(console),
        "comparisons": {one.digest: one for one in Seconds(console.house.engine).comparisons()},
    }
    return page(request, visitor, "models.html", values)


def _shadows(console: Console) -> tuple[Bundle, ...]:
    """Return the bundles in shadow; none where one is damaged, with which the daemon does not start."""
    try:
        return shadows(console.house.settings)
    except OverreadError:
        return ()


def _bundle(console: Console, name: str) -> Bundle:
    try:
        found = next((bundle for bundle in console.shelf.bundles() if bundle.ref.name == name), None)
    except OverreadError as error:
        raise HTTPException(409, str(error)) from error
    if found is None:
        raise HTTPException(404, f"There is no model {name}.")
    return found


@router.get("/settings")
def settings(request: Request, visitor: Admin, console: Here) -> Response:
    """Show every setting as it was read at the start, and where it came from."""
    house = console.house
    return page(request, visitor, "settings.html", {"tables": console.tables, "file": house.settings.path})


@router.get("/audit")
def audit(request: Request, visitor: Admin, console: Here, until: int = 0) -> Response:
    """Show the newest lines of the audit log, which is an event too."""
    return _audit(request, visitor, console, until)


@router.post("/audit/verify")
def verify_audit(request: Request, posted: AdminPosts, console: Here) -> Response:
    """Walk the hash chain."""
    return _audit(request, posted.visitor, console, 0, console.house.trail.chain.verify())


def _audit(
    request: Request, visitor: Visitor, console: Console, until: int, verdict: Verdict | None = None
) -> Response:
    found = newest(console.house.trail.chain, max(until, 0))
    record.log_used(console, visitor)
    values = {"rows": found.rows, "until": found.until, "paged": until > 0, "verdict": verdict}
    return page(request, visitor, "audit.html", values)
