"""Deliveries: what is due, what was sent, what is confirmed; and destinations."""

import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Engine, delete, func, select
from sqlalchemy.orm import Session

from daemon.domain.delivery import REPLAYABLE, TRANSITIONS, DeliveryState, Destination, RetryPolicy, Selection
from daemon.domain.trust import ClientTls, Credentials
from daemon.domain.work import Change, DueDelivery
from daemon.ledger.circuits import forget, hasten
from daemon.ledger.engine import reading, writing
from daemon.ledger.rows import IllegalTransitionError, note
from daemon.ledger.tables import DeliveryRow, DestinationRow, InstanceRow, JobRow, OutputRow

_COLUMNS = tuple(column.key for column in DestinationRow.__table__.columns)
_SOME_TLS = ClientTls(credentials=Credentials())


class Deliveries:
    """Deliveries in the ledger; `retry` says when what a destination does not commit is sent again."""

    def __init__(self, engine: Engine, retry: RetryPolicy | None = None) -> None:
        self._engine = engine
        self._retry = retry or RetryPolicy()

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
        if not changes:
            return
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

    def committed(self, transaction_uid: str, present: Iterable[str], absent: Mapping[str, str], at: datetime) -> int:
        """Commit a storage commitment's result: present is CONFIRMED, absent (with reasons) is sent again later.

        Returns:
            How many deliveries it spoke of; 0 for a transaction that is not ours.
        """
        here = set(present)
        open_ = (DeliveryState.SENT.value, DeliveryState.UNCONFIRMED.value)
        with writing(self._engine) as session:
            rows = session.execute(
                select(DeliveryRow, OutputRow.sop_instance_uid)
                .join(OutputRow, OutputRow.id == DeliveryRow.output_id)
                .where(DeliveryRow.transaction_uid == transaction_uid, DeliveryRow.state.in_(open_))
            ).all()
            for row, uid in rows:
                if uid in here:
                    change = Change(id=row.id, state=DeliveryState.CONFIRMED, due_at=at, detail="storage commitment")
                    _move(session, row, change, at)
                elif uid in absent:
                    _move(session, row, self._uncommitted(row, absent[uid], at), at)
            return len(rows)

    def _uncommitted(self, row: DeliveryRow, reason: str, at: datetime) -> Change:
        """Return what follows a denial: sent again after a wait, or dead where days went by."""
        detail = f"the destination did not commit it: {reason}"
        if self._retry.spent(row.created_at, at) and row.state == DeliveryState.SENT.value:
            return Change(id=row.id, state=DeliveryState.DEAD, due_at=at, detail=f"gave up: {detail}")
        # Jitter spreads retries; nothing secret hangs on it.
        wait = self._retry.wait(max(row.attempts, 1), random.random())  # noqa: S311
        return Change(id=row.id, state=DeliveryState.PENDING, due_at=at + wait, detail=detail)

    def replay(self, selection: Selection, at: datetime) -> int:
        """Send ended deliveries again, as if they were new: the same objects with the same UIDs.

        Returns:
            How many.

        Raises:
            IllegalTransitionError: one that `selection` names by id is not among them; none is written.
        """
        query = select(DeliveryRow).where(DeliveryRow.state.in_([s.value for s in selection.states if s in REPLAYABLE]))
        if selection.ids:
            query = query.where(DeliveryRow.id.in_(selection.ids))
        if selection.destination:
            query = query.where(DeliveryRow.destination == selection.destination)
        if selection.since:
            query = query.where(DeliveryRow.due_at >= selection.since)
        with writing(self._engine) as session:
            rows = session.scalars(query).all()
            odd = sorted(set(selection.ids) - {row.id for row in rows})
            if odd:
                raise IllegalTransitionError(
                    f"delivery {', '.join(map(str, odd))} is not among what has ended; nothing was replayed, see "
                    "`overread deliveries list`"
                )
            for row in rows:
                change = Change(id=row.id, state=DeliveryState.PENDING, due_at=at, detail="replayed by administrator")
                _move(session, row, change, at)
                row.attempts, row.created_at = 0, at
            hasten(session, {row.destination for row in rows}, at)
            return len(rows)

    def accept(self, ids: Collection[int], by: str, at: datetime) -> None:
        """Take the word of a person, `by`, that the destination has what it never confirmed.

        Raises:
            IllegalTransitionError: one of them is not UNCONFIRMED; none is written.
        """
        unconfirmed = DeliveryRow.state == DeliveryState.UNCONFIRMED.value
        with writing(self._engine) as session:
            rows = session.scalars(select(DeliveryRow).where(DeliveryRow.id.in_(ids), unconfirmed)).all()
            odd = sorted(set(ids) - {row.id for row in rows})
            if odd:
                raise IllegalTransitionError(
                    f"delivery {', '.join(map(str, odd))} is not UNCONFIRMED; nothing was accepted, see "
                    "`overread deliveries list --state UNCONFIRMED`"
                )
            for row in rows:
                change = Change(id=row.id, state=DeliveryState.CONFIRMED, due_at=at, detail=f"accepted by {by}")
                _move(session, row, change, at)

    def destinations(self) -> list[Destination]:
        """Return the destinations that were added by command; of TLS, whose files are settings, only who wants it."""
        with reading(self._engine) as session:
            rows = session.scalars(select(DestinationRow).order_by(DestinationRow.name)).all()
            found = [{name: getattr(row, name) for name in _COLUMNS} for row in rows]
        return [Destination(**{**one, "tls": _SOME_TLS if one["tls"] else None}) for one in found]

    def add_destination(self, destination: Destination) -> None:
        """Add or replace a destination; one that was not reached is tried at once."""
        with writing(self._engine) as session:
            forget(session, destination.name)
            row = {name: getattr(destination, name) for name in _COLUMNS}
            session.merge(DestinationRow(**{**row, "tls": destination.tls is not None}))

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
            forget(session, name)
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
