"""Instances into the ledger, with group commit: who waits together is committed together."""

import sqlite3
import sys
import threading
from collections import Counter, deque
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Engine,
    bindparam,
    case,
    exists,
    func,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError

from daemon.domain.instance import Instance
from daemon.domain.news import News
from daemon.domain.reception import Interrupted, Verdict
from daemon.ledger.arrivals import Arrivals, Values
from daemon.ledger.engine import crossed, reached, reading, writing
from daemon.ledger.feedback import returned, take_back, unended
from daemon.ledger.few import CONFLICTING
from daemon.ledger.rows import instance_json
from daemon.ledger.tables import AssociationRow, InstanceRow, StudyRow

BATCH = 64
_TRIES = 5

_KNOWN = select(InstanceRow.digest, InstanceRow.freed).where(InstanceRow.sop_instance_uid == bindparam("uid"))
_INSERT = insert(InstanceRow)
_COLUMNS = [column.key for column in InstanceRow.__table__.columns if not column.primary_key]
# Sent again after it was freed: its file is there again, and promised again.
_RETURNED = update(InstanceRow).where(InstanceRow.digest == bindparam("bytes")).values(freed=False)
_NEWEST = case((StudyRow.last_at < bindparam("at"), bindparam("at")), else_=StudyRow.last_at)
_OF_STUDY = StudyRow.uid == bindparam("study")
_SEE = update(StudyRow).where(_OF_STUDY).values(last_at=_NEWEST, size=StudyRow.size + bindparam("bytes"), kept=True)
_COUNT = _SEE.values(instances=StudyRow.instances + 1, dirty=True, oversize=False, refused_size=0)
# Most that comes is new, of a study that is there and has room: of it no more is asked.
_ADD = _COUNT.where(
    StudyRow.instances < bindparam("most", type_=BigInteger),
    StudyRow.size + bindparam("bytes") <= bindparam("most_bytes"),
    StudyRow.refused_size <= bindparam("most_bytes"),
    ~exists().where(InstanceRow.sop_instance_uid == bindparam("sop")),
)
# Held from here on: no other listener adds to the study meanwhile.
_HELD = (
    select(StudyRow.instances, StudyRow.size, StudyRow.refused_size).where(_OF_STUDY).with_for_update(key_share=True)
)
_CONFLICTS = (
    select(func.count()).select_from(InstanceRow).where(InstanceRow.study_uid == bindparam("study"), CONFLICTING)
)
_OVERSIZE = update(StudyRow).where(_OF_STUDY, ~StudyRow.oversize).values(oversize=True, dirty=True)
_KEPT = update(StudyRow).where(_OF_STUDY, ~StudyRow.kept).values(kept=True)
_REFUSED = update(StudyRow).where(_OF_STUDY).values(refused_size=bindparam("bytes"))


@dataclass(frozen=True, kw_only=True)
class _Arrival:
    instance: Instance
    association: str
    done: "Future[Verdict]"


class Intake:
    """Records arrivals; `record` returns only when the row is durable.

    Whoever finds no commit under way commits for all who wait: one alone pays for no change of threads, and of many
    each waits for one flush. A study takes `most` instances and `most_bytes`, conflicts too. `listener` is whose
    associations these are, of several that share the ledger.
    """

    def __init__(
        self, engine: Engine, most: int = sys.maxsize, most_bytes: int = sys.maxsize, listener: str = ""
    ) -> None:
        self._engine = engine
        self._listener = listener
        self._most = (most, most_bytes)
        self._waiting: deque[_Arrival] = deque()
        self._turn = threading.Lock()
        sqlite = engine.dialect.name == "sqlite"
        self._plain = Arrivals(engine, _ADD, _INSERT, _COLUMNS) if sqlite else None

    def record(self, instance: Instance, association: str) -> Verdict:
        """Record one instance: STORED, DUPLICATE (equal bytes) or CONFLICT (other bytes, kept beside).

        A SEG is no input: it is kept as feedback, or OURS where we made it, and its study stays as it is.

        TOO_MANY or TOO_LARGE, where its study has as many as it may, or would be too large: it is not recorded, and the
        study is marked. After a TOO_LARGE nothing new is taken, small as it may be, until the limit is raised: a part
        of the study would else count as the whole.

        Raises:
            LedgerAwayError: the transaction failed for now; nothing was recorded, or nobody knows.
        """
        arrival = _Arrival(instance=instance, association=association, done=Future())
        self._waiting.append(arrival)
        with self._turn:
            while not arrival.done.done():
                self._commit([self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))])
        return arrival.done.result()

    def close(self) -> None:
        """Wait for the commit that is under way."""
        with self._turn:
            if self._plain is not None:
                self._plain.close()

    def opened(self, association: str, calling_ae: str, at: datetime) -> None:
        """Note that an association began."""
        with writing(self._engine) as session:
            row = AssociationRow(
                id=association, calling_ae=calling_ae, opened_at=at, listener=self._listener, seen_at=at
            )
            session.add(row)

    def alive(self, at: datetime) -> None:
        """Note that our open associations are still served: a listener that does not say so is taken to be gone."""
        mine = (AssociationRow.closed_at.is_(None), AssociationRow.listener == self._listener)
        with reading(self._engine) as session:
            if session.scalar(select(AssociationRow.id).where(*mine).limit(1)) is None:
                return
        with writing(self._engine) as session:
            session.execute(update(AssociationRow).where(*mine).values(seen_at=at))

    def closed(self, association: str, at: datetime) -> None:
        """Note that an association ended."""
        with writing(self._engine, News.STUDY) as session:
            session.execute(update(AssociationRow).where(AssociationRow.id == association).values(closed_at=at))

    def interrupted(self, unseen: datetime | None = None) -> list[Interrupted]:
        """Return what came on our associations that stand open; with `unseen`, on those of listeners silent since."""
        query = (
            select(AssociationRow.id, AssociationRow.calling_ae, InstanceRow.study_uid, InstanceRow.facts)
            .join(InstanceRow, InstanceRow.association == AssociationRow.id)
            # What was freed came on none that stands open; those that are kept are few, and have an index.
            .where(*self._left(unseen), text("NOT instances.freed"))
        )
        with reading(self._engine) as session:
            rows = session.execute(query).all()
            found = Counter((i, ae, study, f["patient_key"], f["sop_class_uid"]) for i, ae, study, f in rows)
            found.update(unended(session, self._left(unseen)))
        return [
            Interrupted(
                association=association,
                calling_ae=calling_ae,
                study_instance_uid=study,
                patient_key=patient,
                sop_class_uid=sop_class,
                instances=count,
            )
            for (association, calling_ae, study, patient, sop_class), count in found.items()
        ]

    def close_all(self, at: datetime, unseen: datetime | None = None) -> None:
        """End those: a listener that starts has none, and nobody else ends those of a machine that is lost."""
        left = self._left(unseen)
        with reading(self._engine) as session:
            if session.scalar(select(AssociationRow.id).where(*left).limit(1)) is None:
                return
        with writing(self._engine) as session:
            session.execute(update(AssociationRow).where(*left).values(closed_at=at))

    def _left(self, unseen: datetime | None) -> tuple[ColumnElement[bool], ...]:
        left = AssociationRow.closed_at.is_(None)
        if unseen is None:
            return left, AssociationRow.listener == self._listener
        return left, or_(AssociationRow.seen_at.is_(None), AssociationRow.seen_at < unseen)

    def _commit(self, batch: list[_Arrival]) -> None:
        # Two listeners take studies in one order, so that neither waits for the other.
        batch.sort(key=lambda arrival: arrival.instance.study_instance_uid)
        try:
            with reached():
                verdicts = self._written(batch)
        except Exception as error:  # noqa: BLE001 - the edge of the loop: every waiter learns why
            for arrival in batch:
                arrival.done.set_exception(error)
            return
        for arrival, verdict in zip(batch, verdicts, strict=True):
            arrival.done.set_result(verdict)

    def _written(self, batch: list[_Arrival]) -> list[Verdict]:
        """Commit a batch; where another listener was in the way, or the server went away, once more.

        Then it is known what the other has written, or that ours had been.
        """
        for attempt in range(_TRIES):
            try:
                if attempt == 0 and self._written_plainly(batch):
                    return [Verdict.STORED] * len(batch)
                with self._engine.connect().execution_options(write=True) as connection, connection.begin():
                    return [_insert(connection, arrival, self._most) for arrival in batch]
            except DBAPIError as error:
                if not crossed(error) or attempt == _TRIES - 1:
                    raise
        raise AssertionError

    def _written_plainly(self, batch: list[_Arrival]) -> bool:
        """Commit a batch in which all are new instances of known studies; return False, and write nothing, else."""
        if self._plain is None or any(returned(arrival.instance) for arrival in batch):
            return False
        with suppress(sqlite3.IntegrityError):  # as below: then it is seen what is in the way
            return self._plain.write([(_added(one.instance, self._most), _row(one, conflict=False)) for one in batch])
        return False


def _insert(connection: Connection, arrival: _Arrival, most: tuple[int, int]) -> Verdict:
    """Insert one row. Plain statements: a unit of work would take three times as long as the flush to disk."""
    instance = arrival.instance
    if returned(instance):
        return take_back(connection, instance, arrival.association, most)
    if connection.execute(_ADD, _added(instance, most)).rowcount:
        connection.execute(_INSERT, _row(arrival, conflict=False))
        return Verdict.STORED
    known = {row.digest: row.freed for row in connection.execute(_KNOWN, {"uid": instance.sop_instance_uid})}
    if instance.digest in known:
        if known[instance.digest]:
            connection.execute(_KEPT, {"study": instance.study_instance_uid})
            connection.execute(_RETURNED, {"bytes": instance.digest})
        return Verdict.DUPLICATE
    refused = _refused(connection, instance, most, conflict=bool(known))
    if refused is not None:
        return refused
    connection.execute(_INSERT, _row(arrival, conflict=bool(known)))
    _touch(connection, instance, counts=not known)
    return Verdict.CONFLICT if known else Verdict.STORED


def _added(instance: Instance, most: tuple[int, int]) -> Values:
    return {**_seen(instance), "most": most[0], "most_bytes": most[1], "sop": instance.sop_instance_uid}


def _row(arrival: _Arrival, *, conflict: bool) -> Values:
    instance = arrival.instance
    return {
        "sop_instance_uid": instance.sop_instance_uid,
        "digest": instance.digest,
        "study_uid": instance.study_instance_uid,
        "series_uid": instance.series_instance_uid,
        "size": instance.size,
        "conflict": conflict,
        "freed": False,
        "association": arrival.association,
        "received_at": instance.received_at,
        "facts": instance_json(instance),
    }


def _seen(instance: Instance) -> Values:
    return {"study": instance.study_instance_uid, "at": instance.received_at, "bytes": instance.size}


def _refused(connection: Connection, instance: Instance, most: tuple[int, int], *, conflict: bool) -> Verdict | None:
    """Mark the study and return why, where it does not take the instance; the first of a study it always takes."""
    study = {"study": instance.study_instance_uid}
    held = connection.execute(_HELD, study).one_or_none()
    if held is None:
        return None
    count = held.instances + ((connection.scalar(_CONFLICTS, study) or 0) if conflict else 0)
    wanted = max(held.size + instance.size, held.refused_size)
    if count < most[0] and wanted <= most[1]:
        return None
    connection.execute(_OVERSIZE, study)
    if count >= most[0]:
        return Verdict.TOO_MANY
    connection.execute(_REFUSED, {**study, "bytes": wanted})
    return Verdict.TOO_LARGE


def _touch(connection: Connection, instance: Instance, *, counts: bool) -> None:
    if connection.execute(_COUNT if counts else _SEE, _seen(instance)).rowcount == 0:
        connection.execute(
            insert(StudyRow).values(
                uid=instance.study_instance_uid,
                first_at=instance.received_at,
                last_at=instance.received_at,
                instances=int(counts),
                dirty=counts,
                verdict="",
                evidence="",
                refusal="",
                oversize=False,
                size=instance.size,
                refused_size=0,
                kept=True,
            )
        )
