"""Rows to nouns and back."""

from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy.orm import Session

from daemon.domain.delivery import DeliveryState
from daemon.domain.finding import Answer, Findings
from daemon.domain.instance import Instance
from daemon.errors import OverreadError
from daemon.ledger.tables import DeliveryRow, TransitionRow

_INSTANCE = TypeAdapter(Instance)
_FINDINGS = TypeAdapter(Findings)


class IllegalTransitionError(OverreadError):
    """The state table does not allow this change; nothing was written."""


def instance_json(instance: Instance) -> dict[str, Any]:
    """Return an instance as JSON for its row."""
    document: dict[str, Any] = _INSTANCE.dump_python(instance, mode="json")
    return document


def instance_of(document: dict[str, Any]) -> Instance:
    """Return the instance of a row."""
    return _INSTANCE.validate_python(document)


def findings_json(findings: Findings | None) -> dict[str, Any]:
    """Return findings as JSON for the job's row, empty where there are none."""
    document: dict[str, Any] = {} if findings is None else _FINDINGS.dump_python(findings, mode="json")
    return document


def answer_of(findings: Findings | None, refusal: str) -> str:
    """Return a job's answer for its row: what was found, or that it reports a refusal; empty where it is neither."""
    if findings is not None:
        return findings.answer.value
    return Answer.NOT_PROCESSED.value if refusal else ""


def findings_of(document: dict[str, Any]) -> Findings | None:
    """Return the findings of a job's row."""
    return _FINDINGS.validate_python(document) if document else None


def note(session: Session, subject: str, change: tuple[int, str, str], at: datetime, detail: str) -> None:
    """Append a transition to the audit table; `change` is (id, old state, new state)."""
    subject_id, old, new = change
    session.add(TransitionRow(at=at, subject=subject, subject_id=subject_id, old=old, new=new, detail=detail))


def new_delivery(output_id: int, destination: str, at: datetime) -> DeliveryRow:
    """Return the row of an output that is to go to a destination now."""
    state = DeliveryState.PENDING.value
    return DeliveryRow(output_id=output_id, destination=destination, state=state, created_at=at, due_at=at)
