"""What everybody who is logged in may see: now, studies, deliveries, models, destinations."""

import shutil
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import Response

from daemon.dimse.probe import Service
from daemon.domain.console import Role
from daemon.domain.delivery import REPLAYABLE, Circuit, DeliveryState, Destination, Echo, reached
from daemon.domain.finding import Findings
from daemon.domain.job import JobState
from daemon.domain.reasons import SENTENCES, Reason
from daemon.errors import RefusedError
from daemon.ledger.figures import figures
from daemon.ledger.opinions import Opinions
from daemon.ledger.overview import STATES, DeliveryLine, OutputLine, Overview
from daemon.ledger.queries import JobView
from daemon.ledger.rows import findings_of
from daemon.results.sentence import conclusion
from daemon.web.compared import beside
from daemon.web.console import Console
from daemon.web.guard import LIVE, Here, Visitor, allowed
from daemon.web.view import page
from daemon.web.viewer import pictures

router = APIRouter()
Viewer = Annotated[Visitor, Depends(allowed(Role.VIEWER))]
HOUR = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A job with what it found and where that went."""

    job: JobView
    findings: Findings | None
    why: str
    refusal: str
    outputs: tuple[tuple[OutputLine, tuple[DeliveryLine, ...]], ...]

    @property
    def conclusion(self) -> str:
        """Return what was found, in the report's own words."""
        return conclusion(self.findings) if self.findings else ""

    @property
    def again(self) -> bool:
        """Return whether it can be retried."""
        return self.job.state in (JobState.FAILED, JobState.CANCELED)

    @property
    def answered(self) -> bool:
        """Return whether there is an answer to agree with or not."""
        return self.job.state == JobState.COMPLETED and not self.job.refusal


@dataclass(frozen=True, kw_only=True)
class Place:
    """A destination and how it stands."""

    destination: Destination
    circuit: Circuit | None
    from_file: bool

    @property
    def state(self) -> str:
        """Return how it stands, in a word."""
        return reached(self.circuit)

    @property
    def address(self) -> str:
        """Return where it is."""
        one = self.destination
        return one.url or f"{one.ae_title}@{one.host}:{one.port}"


@router.get("/")
def now(request: Request, visitor: Viewer, console: Here) -> Response:
    """Show at a glance whether all is well."""
    return page(request, visitor, "now.html", _now(console))


@router.get(f"{LIVE}now")
def live_now(request: Request, visitor: Viewer, console: Here) -> Response:
    """Give the part of it that changes."""
    return page(request, visitor, "now_part.html", _now(console))


def _now(console: Console) -> dict[str, object]:
    house = console.house
    at = house.clock.now()
    found = figures(house.engine, at - HOUR, settled=False)
    disk = shutil.disk_usage(house.spool.root)
    headroom = house.settings.data.headroom_mb << 20
    ages = [(at - head).total_seconds() if head else None for head in (found.oldest_job, found.oldest_delivery)]
    return {
        "at": at,
        "figures": found,
        "job_age": ages[0],
        "delivery_age": ages[1],
        "states": JobState,
        "kinds": DeliveryState,
        "disk": disk,
        "full": disk.free < headroom,
        "headroom": headroom,
        "listening": console.listening(),
        "places": places(console),
        "pauses": house.pauses.all(),
        "troubles": Overview(house.engine).troubles(),
    }


@router.get("/studies")
def studies(  # noqa: PLR0913, PLR0917 - what FastAPI hands in, and the query's parts
    request: Request, visitor: Viewer, console: Here, uid: str = "", state: str = "", after: str = ""
) -> Response:
    """List studies, newest first, with the evidence of their completeness."""
    prefix = uid.strip()
    try:
        found = Overview(console.house.engine).studies(prefix, state, after)
    except RefusedError as error:
        raise HTTPException(400, str(error)) from error
    onward = urlencode({"uid": prefix, "state": state, "after": found.after}) if found.after else ""
    values: dict[str, object] = {
        "rows": found.rows,
        "onward": onward,
        "states": STATES,
        "uid": prefix,
        "state": state,
        "after": after,
    }
    return page(request, visitor, "studies.html", values)


@router.get("/studies/{uid}")
def study(request: Request, visitor: Viewer, console: Here, uid: str) -> Response:
    """Show one study: what came, what was found, where it went, and every step."""
    return study_page(request, visitor, console, uid)


def study_page(request: Request, visitor: Visitor, console: Console, uid: str, fault: str = "") -> Response:
    """Return the page of one study; `fault` is why something was not done."""
    overview, queries = Overview(console.house.engine), console.house.queries
    found = overview.study(uid)
    if found is None:
        raise HTTPException(404, f"There is no study {uid}.")
    jobs = queries.jobs(study=uid)
    numbers = [job.id for job in jobs]
    lines = overview.series(uid)
    outputs, deliveries = overview.outputs(numbers), overview.deliveries(numbers)
    values: dict[str, object] = {
        "study": found,
        "elsewhere": console.house.settings.web.viewed(found.uid),
        "series": lines,
        "pictures": pictures(console, lines, uid, jobs),
        "inquiry": overview.inquiry(uid),
        "runs": [_run(job, outputs, deliveries) for job in jobs],
        "beside": beside(console, jobs),
        "events": overview.timeline(numbers, [one.id for one in deliveries]),
        "feedback": Opinions(console.house.engine).listed(study=uid),
        "refusal": sentence(found.refusal),
        "fault": fault,
        "ended": REPLAYABLE,
        "unconfirmed": DeliveryState.UNCONFIRMED,
    }
    return page(request, visitor, "study.html", values, 409 if fault else 200)


def _run(job: JobView, outputs: list[OutputLine], deliveries: list[DeliveryLine]) -> Run:
    made = [output for output in outputs if output.job_id == job.id]
    return Run(
        job=job,
        findings=findings_of(job.findings),
        why=sentence(job.reason),
        refusal=sentence(job.refusal),
        outputs=tuple((output, tuple(one for one in deliveries if one.output_id == output.id)) for output in made),
    )


def sentence(reason: str) -> str:
    """Return a coded reason in plain words."""
    return SENTENCES[Reason(reason)] if reason in set(Reason) else reason


@router.get("/deliveries")
def deliveries(request: Request, visitor: Viewer, console: Here) -> Response:
    """List the dead letters."""
    return deliveries_page(request, visitor, console)


def deliveries_page(request: Request, visitor: Visitor, console: Console, fault: str = "") -> Response:
    """Return the page of dead letters; `fault` is why something was not done."""
    rows = Overview(console.house.engine).dead_letters()
    status = 409 if fault else 200
    values: dict[str, object] = {"rows": rows, "fault": fault, "unconfirmed": DeliveryState.UNCONFIRMED}
    return page(request, visitor, "deliveries.html", values, status)


@router.get("/destinations")
def destinations(request: Request, visitor: Viewer, console: Here) -> Response:
    """List destinations and how they stand."""
    return destinations_page(request, visitor, console, {})


@dataclass(frozen=True, kw_only=True)
class Probed:
    """What a destination was just found to take."""

    name: str
    services: tuple[Service, ...]


def destinations_page(
    request: Request, visitor: Visitor, console: Console, echoes: dict[str, Echo], probed: Probed | None = None
) -> Response:
    """Return the page of destinations; `echoes` and `probed` are what was just asked for."""
    values = {"places": places(console), "echoes": echoes, "probed": probed}
    return page(request, visitor, "destinations.html", values)


def places(console: Console) -> list[Place]:
    """Return the destinations, those that are not reached first."""
    house = console.house
    circuits, named = house.circuits.all(), {d.name for d in house.settings.destination}
    found = [
        Place(destination=d, circuit=circuits.get(d.name), from_file=d.name in named)
        for d in house.destinations().values()
    ]
    return sorted(found, key=lambda one: (one.circuit is None, one.destination.name))
