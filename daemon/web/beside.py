"""Compare: an operator has another bundle read what was answered; what it finds is shown, and goes nowhere."""

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import RedirectResponse, Response

from daemon.domain.console import Role
from daemon.errors import RefusedError
from daemon.ledger.seconds import Seconds
from daemon.web import record
from daemon.web.compared import others
from daemon.web.guard import Here, Posted, posting
from daemon.web.pages import study_page

router = APIRouter()
Operator = Annotated[Posted, Depends(posting(Role.OPERATOR))]


@router.post("/jobs/{job}/compare")
def compare(request: Request, posted: Operator, console: Here, job: int) -> Response:
    """Schedule a second read with the bundle that the form names by digest."""
    house, digest = console.house, posted.fields.get("bundle", "")
    found = house.queries.job(job)
    if found is None:
        raise HTTPException(404, f"There is no job {job}.")
    ref = next((bundle.ref for bundle in others(console) if bundle.ref.digest == digest), None)
    if ref is None:
        fault = "That bundle is not installed (any more)."
        return study_page(request, posted.visitor, console, found.study_instance_uid, fault)
    try:
        Seconds(house.engine).ask(job, ref, record.user_id(posted.visitor.name), house.clock.now())
    except RefusedError as error:
        return study_page(request, posted.visitor, console, found.study_instance_uid, str(error))
    record.acted(console, posted.visitor, f"compare with {ref.name} {ref.version}", f"jobs/{job}")
    return RedirectResponse(f"/studies/{found.study_instance_uid}#job{job}", status_code=303)
