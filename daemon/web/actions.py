"""What is changed at the console, by role, each in the audit trail."""

from time import monotonic
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import RedirectResponse, Response

from daemon.domain.console import Role
from daemon.domain.delivery import Destination, Echo, Selection
from daemon.domain.feedback import FeedbackKind
from daemon.errors import OverreadError, RefusedError
from daemon.ledger.overview import DeliveryLine, Overview
from daemon.ledger.rows import IllegalTransitionError
from daemon.web import record
from daemon.web.console import Console
from daemon.web.guard import Here, Posted, posting
from daemon.web.pages import Probed, deliveries_page, destinations_page, study_page

router = APIRouter()
Operator = Annotated[Posted, Depends(posting(Role.OPERATOR))]
Admin = Annotated[Posted, Depends(posting(Role.ADMIN))]


@router.post("/jobs/{job}/retry")
def retry(request: Request, posted: Operator, console: Here, job: int) -> Response:
    """Schedule a failed or cancelled job again."""
    found = console.house.queries.job(job)
    if found is None:
        raise HTTPException(404, f"There is no job {job}.")
    try:
        console.house.jobs.retry(job, console.house.clock.now())
    except IllegalTransitionError as error:
        return study_page(request, posted.visitor, console, found.study_instance_uid, str(error))
    record.acted(console, posted.visitor, "retry job", f"jobs/{job}")
    return RedirectResponse(f"/studies/{found.study_instance_uid}", status_code=303)


@router.post("/jobs/{job}/agree")
def agree(request: Request, posted: Operator, console: Here, job: int) -> Response:
    """Say that an answer is right."""
    return _say(request, posted, console, (job, FeedbackKind.ACCEPTED))


@router.post("/jobs/{job}/disagree")
def disagree(request: Request, posted: Operator, console: Here, job: int) -> Response:
    """Say that an answer is wrong."""
    return _say(request, posted, console, (job, FeedbackKind.REJECTED))


def _say(request: Request, posted: Posted, console: Console, word: tuple[int, FeedbackKind]) -> Response:
    (job, kind), house = word, console.house
    found = house.queries.job(job)
    if found is None:
        raise HTTPException(404, f"There is no job {job}.")
    try:
        house.feedback.say(job, kind, record.user_id(posted.visitor.name), house.clock.now())
    except RefusedError as error:
        return study_page(request, posted.visitor, console, found.study_instance_uid, str(error))
    record.acted(console, posted.visitor, f"feedback {kind.value}", f"jobs/{job}")
    return RedirectResponse(f"/studies/{found.study_instance_uid}", status_code=303)


@router.post("/deliveries/{delivery}/replay")
def replay(request: Request, posted: Operator, console: Here, delivery: int) -> Response:
    """Send a delivery that ended without the destination's word again."""
    found = _delivery(console, delivery)
    try:
        console.house.deliveries.replay(Selection(ids=(delivery,)), console.house.clock.now())
    except IllegalTransitionError as error:
        return _refused(request, posted, console, found, str(error))
    record.acted(console, posted.visitor, "replay delivery", f"deliveries/{delivery}")
    return _back(posted, found)


@router.post("/deliveries/{delivery}/accept")
def accept(request: Request, posted: Admin, console: Here, delivery: int) -> Response:
    """Count an unconfirmed delivery as confirmed, on the word of who asks."""
    found = _delivery(console, delivery)
    by = record.user_id(posted.visitor.name)
    try:
        console.house.deliveries.accept([delivery], by, console.house.clock.now())
    except IllegalTransitionError as error:
        return _refused(request, posted, console, found, str(error))
    record.acted(console, posted.visitor, "accept delivery", f"deliveries/{delivery}")
    return _back(posted, found)


@router.post("/destinations/{name}/echo")
def echo(request: Request, posted: Operator, console: Here, name: str) -> Response:
    """Ask a destination whether it is there."""
    answer = console.house.courier().echo(_destination(console, name))
    return destinations_page(request, posted.visitor, console, {name: answer})


@router.post("/destinations/{name}/probe")
def probe(request: Request, posted: Operator, console: Here, name: str) -> Response:
    """Ask a destination what it takes; nothing is sent."""
    destination = _destination(console, name)
    if destination.url:
        raise HTTPException(
            409, f"{name} is a DICOMweb service, which cannot be probed; Echo asks whether it is there."
        )
    began = monotonic()
    try:
        probed = Probed(name=name, services=console.house.courier().dimse.probe(destination))
    except OverreadError as error:
        answer = Echo(ok=False, detail=str(error), seconds=monotonic() - began)
        return destinations_page(request, posted.visitor, console, {name: answer})
    return destinations_page(request, posted.visitor, console, {}, probed)


def _destination(console: Console, name: str) -> Destination:
    known = console.house.destinations()
    if name not in known:
        raise HTTPException(404, f"There is no destination {name}.")
    return known[name]


def _delivery(console: Console, delivery: int) -> DeliveryLine:
    found = Overview(console.house.engine).delivery(delivery)
    if found is None:
        raise HTTPException(404, f"There is no delivery {delivery}.")
    return found


def _back(posted: Posted, delivery: DeliveryLine) -> Response:
    """Return to the page that the form stood on."""
    listed = posted.fields.get("from") == "deliveries"
    return RedirectResponse("/deliveries" if listed else f"/studies/{delivery.study_uid}", status_code=303)


def _refused(request: Request, posted: Posted, console: Console, delivery: DeliveryLine, fault: str) -> Response:
    if posted.fields.get("from") == "deliveries":
        return deliveries_page(request, posted.visitor, console, fault)
    return study_page(request, posted.visitor, console, delivery.study_uid, fault)
