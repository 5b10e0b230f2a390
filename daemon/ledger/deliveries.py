"""Deliveries: what is due, what was sent, what is confirmed; and destinations."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import Engine, delete, func, select
from sqlalchemy.orm import Session

from daemon.domain.delivery import TRANSITIONS, DeliveryState, Destination
from daemon.domain.work import Change, DueDelivery
from daemon.ledger.engine import reading, writing
from daemon.ledger.rows import IllegalTransitionError, note
from daemon.ledger.tables import DeliveryRow, DestinationRow, InstanceRow, JobRow, OutputRow


class Deliveries:
    """Deliveries in the ledger."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def due(self, state: DeliveryState, at: datetime) -> list[DueDelivery]:
        """Return the deliveries in `state` whose time has come, oldest first."""
        query = (
            select(DeliveryRow, OutputRow, JobRow.study_uid)
            .join(OutputRow, OutputRow.id == DeliveryRow.output_id)
            .join(JobRow, JobRow.id == OutputRow.job_id)
            .where(DeliveryRow.state == state.value, DeliveryRow.due_at <= at)
            .order_by(DeliveryRow.id)
        )
        with reading(self._engine) as session:
            return [_due(*row) for row in session.execute(query).all()]

    def change(self, changes: Sequence[Change], at: datetime) -> None:
        """Commit what became of an attempt; every failed attempt counts.

        Raises:
            IllegalTransitionError: the state table does not allow one of them; none is written.
        """
        with writing(self._engine) as session:
            for change in changes:
                row = session.get_one(DeliveryRow, change.id)
                _move(session, row, change, at)

    def patient_key(self, study_instance_uid: str) -> str:
        """Return the keyed hash of a study's patient, empty where no instance of it is known."""
        query = select(InstanceRow.facts).where(InstanceRow.study_uid == study_instance_uid).limit(1)
        with reading(self._engine) as session:
            facts = session.scalar(query)
            return str(facts["patient_key"]) if facts else ""

    def committed(self, transaction_uid: str, present: Iterable[str], absent: Iterable[str], at: datetime) -> int:
        """Commit a storage commitment's result: present is CONFIRMED, absent is PENDING again.

        Returns:
            How many deliveries it spoke of; 0 for a transaction that is not ours.
        """
        here, gone = set(present), set(absent)
        with writing(self._engine) as session:
            rows = session.execute(
                select(DeliveryRow, OutputRow.sop_instance_uid)
                .join(OutputRow, OutputRow.id == DeliveryRow.output_id)
                .where(DeliveryRow.transaction_uid == transaction_uid, DeliveryRow.state == DeliveryState.SENT.value)
            ).all()
            for row, uid in rows:
                state = DeliveryState.CONFIRMED if uid in here else DeliveryState.PENDING
                if uid in here or uid in gone:
                    detail = "storage commitment" if uid in here else "the destination did not commit it"
                    _move(session, row, Change(id=row.id, state=state, due_at=at, detail=detail), at)
            return len(rows)

    def retry(self, delivery_id: int, at: datetime) -> None:
        """Send a dead delivery again.

        Raises:
            IllegalTransitionError: it is not dead.
            NoResultFound: there is no such delivery.
        """
        with writing(self._engine) as session:
            row = session.get_one(DeliveryRow, delivery_id)
            change = Change(id=row.id, state=DeliveryState.PENDING, due_at=at, detail="asked by administrator")
            _move(session, row, change, at)
            row.attempts, row.created_at = 0, at

    def destinations(self) -> list[Destination]:
        """Return the destinations that were added by command."""
        with reading(self._engine) as session:
            rows = session.scalars(select(DestinationRow).order_by(DestinationRow.name)).all()
            return [
                Destination(name=r.name, ae_title=r.ae_title, host=r.host, port=r.port, commitment=r.commitment)
                for r in rows
            ]

    def add_destination(self, destination: Destination) -> None:
        """Add or replace a destination."""
        with writing(self._engine) as session:
            session.merge(DestinationRow(**vars(destination)))

    def remove_destination(self, name: str) -> bool:
        """Remove a destination that was added by command; False where there is none of that name."""
        with writing(self._engine) as session:
            waiting = session.scalar(
                select(func.count())
                .select_from(DeliveryRow)
                .where(DeliveryRow.destination == name, DeliveryRow.state.in_(("PENDING", "SENT")))
            )
            if waiting:
                raise IllegalTransitionError(f"{waiting} deliveries to {name} are not finished; let them finish first")
            removed = session.execute(delete(DestinationRow).where(DestinationRow.name == name))
            return bool(removed.rowcount)  # type: ignore[attr-defined]


def _due(row: DeliveryRow, output: OutputRow, study_uid: str) -> DueDelivery:
    return DueDelivery(
        id=row.id,
        destination=row.destination,
        attempts=row.attempts,
        created_at=row.created_at,
        sent_at=row.sent_at,
        transaction_uid=row.transaction_uid,
        digest=output.digest,
        sop_class_uid=output.sop_class_uid,
        sop_instance_uid=output.sop_instance_uid,
        series_instance_uid=output.series_uid,
        study_instance_uid=study_uid,
    )


def _move(session: Session, row: DeliveryRow, change: Change, at: datetime) -> None:
    old = DeliveryState(row.state)
    if (old, change.state) not in TRANSITIONS:
        raise IllegalTransitionError(f"delivery {row.id} is {old.value} and cannot become {change.state.value}")
    row.state, row.due_at, row.detail = change.state.value, change.due_at, change.detail
    # What is sent again is asked for again; a report on the old transaction does not speak of it.
    again = change.state is DeliveryState.PENDING
    row.transaction_uid = "" if again else change.transaction_uid or row.transaction_uid
    if old is DeliveryState.PENDING:
        row.attempts += 1
    if change.state is DeliveryState.SENT and old is DeliveryState.PENDING:
        row.sent_at = at
    if change.state is DeliveryState.CONFIRMED:
        row.confirmed_at = at
    if old is not change.state:
        note(session, "delivery", (row.id, old.value, change.state.value), at, change.detail)
