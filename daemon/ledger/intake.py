"""Instances into the ledger, with group commit: who waits together is committed together."""

import sys
import threading
from collections import Counter, deque
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, bindparam, case, func, insert, select, update

from daemon.domain.instance import Instance
from daemon.domain.reception import Interrupted, Verdict
from daemon.ledger.engine import reading, writing
from daemon.ledger.rows import instance_json
from daemon.ledger.tables import AssociationRow, InstanceRow, StudyRow

BATCH = 64

_KNOWN = select(InstanceRow.digest, InstanceRow.freed).where(InstanceRow.sop_instance_uid == bindparam("uid"))
_INSERT = insert(InstanceRow)
# Sent again after it was freed: its file is there again, and promised again.
_RETURNED = update(InstanceRow).where(InstanceRow.digest == bindparam("bytes")).values(freed=False)
_NEWEST = case((StudyRow.last_at < bindparam("at"), bindparam("at")), else_=StudyRow.last_at)
_OF_STUDY = StudyRow.uid == bindparam("study")
_SEE = update(StudyRow).where(_OF_STUDY).values(last_at=_NEWEST)
_COUNT = _SEE.values(instances=StudyRow.instances + 1, dirty=True, oversize=False)
_HELD = select(StudyRow.instances).where(_OF_STUDY)
_CONFLICTS = (
    select(func.count())
    .select_from(InstanceRow)
    .where(InstanceRow.study_uid == bindparam("study"), InstanceRow.conflict)
)
_OVERSIZE = update(StudyRow).where(_OF_STUDY, ~StudyRow.oversize).values(oversize=True, dirty=True)


@dataclass(frozen=True, kw_only=True)
class _Arrival:
    instance: Instance
    association: str
    done: "Future[Verdict]"


class Intake:
    """Records arrivals; `record` returns only when the row is durable.

    Whoever finds no commit under way commits for all who wait: one alone pays for no change of threads, and of many
    each waits for one flush. A study takes `most` instances, conflicts too.
    """

    def __init__(self, engine: Engine, most: int = sys.maxsize) -> None:
        self._engine = engine
        self._most = most
        self._waiting: deque[_Arrival] = deque()
        self._turn = threading.Lock()

    def record(self, instance: Instance, association: str) -> Verdict:
        """Record one instance: STORED, DUPLICATE (equal bytes) or CONFLICT (other bytes, kept beside).

        TOO_LARGE, where its study has as many as it may: it is not recorded, and the study is marked.

        Raises:
            SQLAlchemyError: the transaction failed; nothing was recorded.
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
            pass

    def opened(self, association: str, calling_ae: str, at: datetime) -> None:
        """Note that an association began."""
        with writing(self._engine) as session:
            session.add(AssociationRow(id=association, calling_ae=calling_ae, opened_at=at))

    def closed(self, association: str, at: datetime) -> None:
        """Note that an association ended."""
        with writing(self._engine) as session:
            session.execute(update(AssociationRow).where(AssociationRow.id == association).values(closed_at=at))

    def interrupted(self) -> list[Interrupted]:
        """Return what came on associations that stand open."""
        query = (
            select(AssociationRow.id, AssociationRow.calling_ae, InstanceRow.study_uid, InstanceRow.facts)
            .join(InstanceRow, InstanceRow.association == AssociationRow.id)
            .where(AssociationRow.closed_at.is_(None))
        )
        with reading(self._engine) as session:
            rows = session.execute(query).all()
        found = Counter((i, ae, study, f["patient_key"], f["sop_class_uid"]) for i, ae, study, f in rows)
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

    def close_all(self, at: datetime) -> None:
        """End every association that stands open: a listener that starts has none."""
        with writing(self._engine) as session:
            session.execute(update(AssociationRow).where(AssociationRow.closed_at.is_(None)).values(closed_at=at))

    def _commit(self, batch: list[_Arrival]) -> None:
        try:
            with self._engine.connect().execution_options(write=True) as connection, connection.begin():
                verdicts = [_insert(connection, arrival, self._most) for arrival in batch]
        except Exception as error:  # noqa: BLE001 - the edge of the loop: every waiter learns why
            for arrival in batch:
                arrival.done.set_exception(error)
            return
        for arrival, verdict in zip(batch, verdicts, strict=True):
            arrival.done.set_result(verdict)


def _insert(connection: Connection, arrival: _Arrival, most: int) -> Verdict:
    """Insert one row. Plain statements: a unit of work would take three times as long as the flush to disk."""
    instance = arrival.instance
    known = {row.digest: row.freed for row in connection.execute(_KNOWN, {"uid": instance.sop_instance_uid})}
    if instance.digest in known:
        if known[instance.digest]:
            connection.execute(_RETURNED, {"bytes": instance.digest})
        return Verdict.DUPLICATE
    study = {"study": instance.study_instance_uid}
    held = (connection.scalar(_HELD, study) or 0) + ((connection.scalar(_CONFLICTS, study) or 0) if known else 0)
    if held >= most:
        connection.execute(_OVERSIZE, study)
        return Verdict.TOO_LARGE
    connection.execute(
        _INSERT,
        {
            "sop_instance_uid": instance.sop_instance_uid,
            "digest": instance.digest,
            "study_uid": instance.study_instance_uid,
            "series_uid": instance.series_instance_uid,
            "size": instance.size,
            "conflict": bool(known),
            "freed": False,
            "association": arrival.association,
            "received_at": instance.received_at,
            "facts": instance_json(instance),
        },
    )
    _touch(connection, instance, counts=not known)
    return Verdict.CONFLICT if known else Verdict.STORED


def _touch(connection: Connection, instance: Instance, *, counts: bool) -> None:
    seen = {"study": instance.study_instance_uid, "at": instance.received_at}
    if connection.execute(_COUNT if counts else _SEE, seen).rowcount == 0:
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
            )
        )
