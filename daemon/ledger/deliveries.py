"""Deliveries: what is due, what was sent, what is confirmed; and destinations."""

import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Engine, Select, delete, exists, func, select
from sqlalchemy.orm import Session

from daemon.domain.commitment import Consequence, denial
from daemon.domain.delivery import (
    REPLAYABLE,
    TRANSITIONS,
    DeliveryState,
    Destination,
    RetryPolicy,
    Selection,
    Undelivered,
)
from daemon.domain.news import News
from daemon.domain.output import OutputKind, Replacement
from daemon.domain.statuses import displaced, remark
from daemon.domain.trust import ClientTls, Credentials
from daemon.domain.work import Change, DueDelivery
from daemon.ledger.circuits import forget, hasten
from daemon.ledger.engine import reading, writing
from daemon.ledger.rows import IllegalTransitionError, new_delivery, note
from daemon.ledger.tables import DeliveryRow, DestinationRow, InstanceRow, JobRow, OutputRow

_COLUMNS = tuple(column.key for column in DestinationRow.__table__.columns)
_SOME_TLS = ClientTls(credentials=Credentials())


class Deliveries:
    """Deliveries in the ledger; `retry` says when what a destination does not commit is sent again."""

    def __init__(self, engine: Engine, retry: RetryPolicy | None = None) -> None:
        self._engine = engine
        self._retry = retry or RetryPolicy()

    def due(
        self, state: DeliveryState, at: datetime, *, to: str = "", beside: Collection[str] = ()
    ) -> list[DueDelivery]:
        """Return the deliveries in `state` that are due, oldest first: to one destination, or to none of some."""
        query = (
            select(DeliveryRow, OutputRow, JobRow.study_uid)
            .join(OutputRow, OutputRow.id == DeliveryRow.output_id)
            .join(JobRow, JobRow.id == OutputRow.job_id)
            .where(DeliveryRow.state == state.value, DeliveryRow.due_at <= at)
            .order_by(DeliveryRow.id)
        )
        query = query.where(DeliveryRow.destination == to) if to else query
        query = query.where(DeliveryRow.destination.not_in(beside)) if beside else query
        with reading(self._engine) as session:
            return [_due(*row) for row in session.execute(query).all()]

    def change(self, changes: Sequence[Change], at: datetime, *, only: DeliveryState | None = None) -> None:
        """Commit what became of an attempt; every failed attempt counts. What is no longer `only` stays as it is.

        Raises:
            IllegalTransitionError: the state table does not allow one of them; none is written.
        """
        if not changes:
            return
        with writing(self._engine) as session:
            for change in sorted(changes, key=lambda one: one.id):
                row = _locked(session, change.id)
                if only is None or row.state == only:
                    _move(session, row, change, at)

    def replace(self, change: Change, instead: OutputKind, at: datetime) -> bool:
        """Commit that the destination refuses an output, and that those of the same job of kind `instead` go there.

        Returns:
            False where the job made none; nothing is written then.
        """
        with writing(self._engine, News.OUTPUT) as session:
            row = _locked(session, change.id)
            job_id = session.get_one(OutputRow, row.output_id).job_id
            of_kind = select(OutputRow.id).where(OutputRow.job_id == job_id, OutputRow.kind == instead.value)
            made = set(session.scalars(of_kind))
            known = select(DeliveryRow.output_id).where(
                DeliveryRow.destination == row.destination, DeliveryRow.output_id.in_(made)
            )
            if not made:
                return False
            for output_id in sorted(made - set(session.scalars(known))):
                session.add(new_delivery(output_id, row.destination, at))
            _move(session, row, change, at)
            return True

    def patient_key(self, study_instance_uid: str) -> str:
        """Return the keyed hash of a study's patient, empty where no instance of it is known."""
        query = select(InstanceRow.facts).where(InstanceRow.study_uid == study_instance_uid).limit(1)
        with reading(self._engine) as session:
            facts = session.scalar(query)
            return str(facts["patient_key"]) if facts else ""

    def committed(
        self, transaction_uid: str, present: Iterable[str], absent: Mapping[str, int | None], at: datetime
    ) -> int:
        """Commit a storage commitment's result: present is CONFIRMED; of absent the Failure Reason decides.

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
                .order_by(DeliveryRow.id)
                .with_for_update(of=DeliveryRow, key_share=True)
            ).all()
            for row, uid in rows:
                if uid in here:
                    detail = f"storage commitment{remark(row.warning)}"
                    change = Change(id=row.id, state=DeliveryState.CONFIRMED, due_at=at, detail=detail)
                    _move(session, row, change, at)
                elif uid in absent:
                    _move(session, row, self._uncommitted(row, absent[uid], at), at)
            return len(rows)

    def _uncommitted(self, row: DeliveryRow, reason: int | None, at: datetime) -> Change:
        """Return what follows a denial: by its reason, and sent again after a wait, or dead where days went by.

        What the destination may keep under another UID is for a person to look up.
        """
        denied, state = denial(reason), DeliveryState(row.state)
        detail = f"the destination did not commit it: {denied.words}"
        if elsewhere := displaced(row.warning, detail):
            return Change(id=row.id, state=DeliveryState.UNCONFIRMED, due_at=at, detail=elsewhere)
        if denied.consequence is Consequence.LOOK:
            return Change(id=row.id, state=state, due_at=at, detail=detail)
        if denied.consequence is Consequence.END:
            ended = DeliveryState.DEAD if state is DeliveryState.SENT else state
            return Change(id=row.id, state=ended, due_at=at, detail=f"{detail}: mend that there, then replay it")
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
        with writing(self._engine, News.OUTPUT) as session:
            rows = session.scalars(_all_locked(query)).all()
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

    def create(self, wanted: Undelivered, at: datetime) -> int:
        """Make deliveries of outputs that have none to a destination, as if it had been configured when they were made.

        Returns:
            How many.

        Raises:
            IllegalTransitionError: an output that `wanted` names by id is not there, is freed or has one; none is made.
        """
        there = exists().where(DeliveryRow.output_id == OutputRow.id, DeliveryRow.destination == wanted.destination)
        query = select(OutputRow.id).join(JobRow, JobRow.id == OutputRow.job_id).where(~OutputRow.freed, ~there)
        named = (
            OutputRow.id.in_(wanted.ids) if wanted.ids else OutputRow.kind.in_([kind.value for kind in wanted.kinds])
        )
        query = query.where(named)
        query = query.where(JobRow.finished_at >= wanted.since) if wanted.since else query
        with writing(self._engine, News.OUTPUT) as session:
            outputs = session.scalars(query.order_by(OutputRow.id)).all()
            odd = sorted(set(wanted.ids) - set(outputs))
            if odd:
                raise IllegalTransitionError(
                    f"output {', '.join(map(str, odd))} is not there, its file is freed, or it is or was on its way to "
                    f"{wanted.destination}; nothing was made, see `overread outputs list`"
                )
            for output in outputs:
                row = new_delivery(output, wanted.destination, at)
                session.add(row)
                session.flush()
                note(session, "delivery", (row.id, "", row.state), at, "asked by administrator")
            hasten(session, {wanted.destination}, at)
            return len(outputs)

    def accept(self, ids: Collection[int], by: str, at: datetime) -> None:
        """Take the word of a person, `by`, that the destination has what it never confirmed.

        Raises:
            IllegalTransitionError: one of them is not UNCONFIRMED; none is written.
        """
        unconfirmed = DeliveryRow.state == DeliveryState.UNCONFIRMED.value
        with writing(self._engine) as session:
            wanted = select(DeliveryRow).where(DeliveryRow.id.in_(ids), unconfirmed)
            rows = session.scalars(_all_locked(wanted)).all()
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
        return [Destination(**{**one, **_read(one)}) for one in found]

    def add_destination(self, destination: Destination) -> None:
        """Add or replace a destination; one that was not reached is tried at once."""
        with writing(self._engine) as session:
            forget(session, destination.name)
            row = {name: getattr(destination, name) for name in _COLUMNS}
            lists = {name: ",".join(map(str, row[name])) for name in ("outputs", "fallback")}
            session.merge(DestinationRow(**{**row, **lists, "tls": destination.tls is not None}))

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


def _read(row: Mapping[str, str]) -> dict[str, object]:
    """Return what a destination's row holds in another form than the destination."""
    return {
        "tls": _SOME_TLS if row["tls"] else None,
        "outputs": tuple(map(OutputKind.parse, row["outputs"].split(","))),
        "fallback": tuple(map(Replacement.parse, filter(None, row["fallback"].split(",")))),
    }


def _due(row: DeliveryRow, output: OutputRow, study_uid: str) -> DueDelivery:
    return DueDelivery(
        id=row.id,
        destination=row.destination,
        attempts=row.attempts,
        created_at=row.created_at,
        sent_at=row.sent_at,
        transaction_uid=row.transaction_uid,
        kind=OutputKind(output.kind),
        digest=output.digest,
        sop_class_uid=output.sop_class_uid,
        sop_instance_uid=output.sop_instance_uid,
        series_instance_uid=output.series_uid,
        study_instance_uid=study_uid,
        warning=row.warning,
    )


def _locked(session: Session, delivery: int) -> DeliveryRow:
    """Return a delivery that nobody else changes until the transaction ends."""
    return session.get_one(DeliveryRow, delivery, with_for_update={"key_share": True})


def _all_locked(query: Select[DeliveryRow]) -> Select[DeliveryRow]:
    """Return a query that takes each delivery so, in an order in which no two wait for each other."""
    return query.order_by(DeliveryRow.id).with_for_update(key_share=True)


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
        row.sent_at, row.warning = at, change.warning
    if change.state is DeliveryState.CONFIRMED:
        row.confirmed_at = at
    if old is not change.state:
        note(session, "delivery", (row.id, old.value, change.state.value), at, change.detail)
