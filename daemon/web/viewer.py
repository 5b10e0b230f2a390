"""The slice viewer of the study page: pictures, and how a series is usually seen."""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query
from fastapi.responses import JSONResponse, Response

from daemon.domain.console import Role
from daemon.domain.instance import Instance
from daemon.domain.output import OutputKind
from daemon.ledger.holdings import Holding, Holdings, Wanted
from daemon.ledger.overview import SeriesLine
from daemon.ledger.queries import JobView
from daemon.ledger.rows import findings_of
from daemon.results.views import CT_WINDOW, grey
from daemon.web import record
from daemon.web.console import Console
from daemon.web.guard import Here, Visitor, allowed
from daemon.web.objects import png
from daemon.web.planes import Plane, across, counts, kept, marked, native, under
from daemon.web.slices import AIR_HU, LEAST, Look, beneath, drawn, mark_of, shown, source_of, stacked
from daemon.web.wado import of_series

router = APIRouter()
Viewer = Annotated[Visitor, Depends(allowed(Role.VIEWER))]
MARKS = (OutputKind.SEGMENTATION, OutputKind.UNCERTAINTY, OutputKind.PROBABILITY)
_DRAWING = threading.BoundedSemaphore(2)
_SHOWN = frozenset({"MR", "CT", "PT"})


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How a slice is asked for: window, opacity of the marks in percent, which of them, a CT to lay it over, the plane.

    Without a plane it is a slice as it was acquired.
    """

    low: float | None
    high: float | None
    opacity: int
    outline: bool
    doubt: bool
    heat: bool
    ct: str
    plane: Plane | None


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """What the study page begins with: series that can be looked at, the one that was read first, its key slice."""

    series: tuple[SeriesLine, ...]
    first: int
    ct: str
    outlined: bool
    doubted: bool
    heated: bool


def asked(  # noqa: PLR0913, PLR0917 - the query's parts
    low: float | None = None,
    high: float | None = None,
    opacity: Annotated[int, Query(ge=0, le=100)] = 100,
    outline: bool = True,  # noqa: FBT001, FBT002 - the same
    doubt: bool = False,  # noqa: FBT001, FBT002 - the same
    heat: bool = False,  # noqa: FBT001, FBT002 - the same
    ct: Annotated[str, Query(pattern=r"^[0-9.]{0,64}$")] = "",
    plane: Plane | None = None,
) -> Asked:
    """Return how a slice is asked for."""
    return Asked(low=low, high=high, opacity=opacity, outline=outline, doubt=doubt, heat=heat, ct=ct, plane=plane)


@router.get("/studies/{study}/series/{series}/slices/{index}")
def picture(
    visitor: Viewer,
    console: Here,
    sought: Annotated[Wanted, Depends(of_series)],
    index: int,
    how: Annotated[Asked, Depends(asked)],
) -> Response:
    """Give a slice as PNG."""
    stack = _stack(console, sought)
    record.accessed(console, visitor, sought.study_uid)
    spool, plane = console.house.spool, how.plane
    fused = how.ct and stack[0].acquisition.modality == "PT"
    lower = _stack(console, Wanted(study_uid=sought.study_uid, series_uid=how.ct)) if fused else []
    for whole in filter(None, (stack, lower) if plane is not None else ()):
        # A series that is read whole must not keep others from their slices.
        kept(spool, whole)
    with _DRAWING:
        found = shown(spool, stack, index) if plane is None else across(spool, stack, plane, index)
        ct = None
        if lower:
            ct = beneath(spool, lower, found) if plane is None else grey(under(spool, lower, found, AIR_HU), *CT_WINDOW)
        wanted = [kind for kind, on in zip(MARKS, (how.outline, how.doubt, how.heat), strict=True) if on]
        marks = []
        for one in _marks(console, sought, wanted):
            mark = mark_of(spool, one, found) if plane is None else marked(spool, one, stack, (plane, index))
            marks += [] if mark is None else [(one.kind, mark)]
        look = Look(window=_window(how, found.window, fused=ct is not None), opacity=how.opacity / 100)
        return Response(png(drawn(found, look, ct, marks)), media_type="image/png")


@router.get("/studies/{study}/series/{series}/window")
def window(visitor: Viewer, console: Here, sought: Annotated[Wanted, Depends(of_series)]) -> JSONResponse:
    """Tell how many slices a series has in each plane, which it was acquired in, and in which window it is seen."""
    stack = _stack(console, sought)
    record.accessed(console, visitor, sought.study_uid)
    with _DRAWING:
        middle = shown(console.house.spool, stack, len(stack) // 2)
    low, high = sorted(middle.window)
    grid = middle.volume.grid
    planes = {"native": native(grid).value, "planes": counts(stack, grid)}
    return JSONResponse({"count": len(stack), "low": low, "high": high, **planes})


def pictures(console: Console, lines: Sequence[SeriesLine], study: str, jobs: Sequence[JobView]) -> Pictures | None:
    """Return what the viewer of a study begins with, None where nothing of it can be looked at."""
    series = [line for line in lines if line.modality in _SHOWN and line.kept >= LEAST]
    if not series:
        return None
    marks = {
        one.kind: _lies_on(console, one) for one in Holdings(console.house.engine).made(study) if one.kind in MARKS
    }
    # What was read first, else PET before its CT.
    series.sort(key=lambda line: (line.uid not in marks.values(), line.modality == "CT", -line.kept))
    first = series[0]
    found = (findings_of(job.findings) for job in reversed(jobs))
    lesions = next((one.lesions for one in found if one), ())
    key = lesions[0].key_slice if lesions and first.uid in marks.values() else first.kept // 2
    ct = next((line.uid for line in series if line.modality == "CT"), "")
    return Pictures(
        series=tuple(series),
        first=min(key, first.kept - 1),
        ct=ct if first.modality == "PT" else "",
        outlined=OutputKind.SEGMENTATION in marks,
        doubted=OutputKind.UNCERTAINTY in marks,
        heated=OutputKind.PROBABILITY in marks,
    )


def _lies_on(console: Console, holding: Holding) -> str:
    """Return the series that a result lies on, empty where its file does not tell."""
    try:
        return source_of(console.house.spool, holding)
    except HTTPException:
        return ""


def _stack(console: Console, sought: Wanted) -> list[Instance]:
    found = stacked(Holdings(console.house.engine).instances(sought.study_uid, sought.series_uid))
    if not found:
        raise HTTPException(404, "No stack of images of that series is in the spool.")
    return found


def _marks(console: Console, sought: Wanted, kinds: Sequence[OutputKind]) -> list[Holding]:
    """Return the newest result of each kind that lies on the series."""
    newest: dict[str, Holding] = {}
    for one in Holdings(console.house.engine).made(sought.study_uid):
        if one.kind in kinds and _lies_on(console, one) == sought.series_uid:
            newest[one.kind] = one
    return list(newest.values())


def _window(how: Asked, usual: tuple[float, float], *, fused: bool) -> tuple[float, float]:
    """Return what is black and what is white; of PET alone the other way round, in colour as it is."""
    low, high = sorted(usual)
    if how.low is not None and how.high is not None and math.isfinite(how.low) and math.isfinite(how.high):
        low, high = how.low, max(how.high, how.low + 1e-3)
    return (low, high) if fused or usual[0] < usual[1] else (high, low)
