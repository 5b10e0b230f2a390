"""Pages from templates."""

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from daemon import __version__
from daemon.results.sentence import probability
from daemon.web.guard import Visitor

FOLDER = Path(__file__).parent
_GIGABYTE = 1 << 30


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(when=_when, spell=spell, gigabytes=_gigabytes, query=urlencode, probability=probability)
    made.globals["version"] = __version__
    return made


def page(
    request: Request, visitor: Visitor | None, template: str, values: Mapping[str, object], status: int = 200
) -> HTMLResponse:
    """Return a page; `values` are what its template names."""
    text = _environment().get_template(template).render(path=request.url.path, visitor=visitor, **values)
    return HTMLResponse(text, status_code=status)


def _when(at: datetime | None) -> Markup:
    """Return a time as a person reads it, in the machine's zone."""
    if at is None:
        return Markup("")
    local = at.astimezone()
    return Markup('<time datetime="{}">{}</time>').format(local.isoformat(), local.strftime("%Y-%m-%d %H:%M:%S"))


def spell(seconds: float | None) -> str:
    """Return a time span in two units at most."""
    if seconds is None:
        return "none"
    whole = round(seconds)
    for size, unit, small, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // small} {part}"
    return f"{seconds:.1f} s"


def _gigabytes(size: int) -> str:
    return f"{size / _GIGABYTE:.1f} GB"
