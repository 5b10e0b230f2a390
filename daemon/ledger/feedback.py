"""Feedback in the ledger: what came back, which result it is of, and what people said."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, Engine, func, insert, or_, select, update
from sqlalchemy.orm import Session

from daemon.domain.feedback import Candidate, Evidence, FeedbackKind, FeedbackState, Outcome, Outline, Returned
from daemon.domain.instance import Instance
from daemon.domain.job import JobState
from daemon.domain.output import SOP_CLASSES, OutputKind
from daemon.domain.reception import Verdict
from daemon.errors import RefusedError
from daemon.ledger.engine import reading, writing
from daemon.ledger.parts import parts
from daemon.ledger.rows import note
from daemon.ledger.tables import AssociationRow, FeedbackRow, InstanceRow, JobRow, OutputRow
from daemon.uids import Role, derive

# SEGs that one study takes back; a workstation that saves every few minutes for a day stays below.
MOST_OF_STUDY = 200
_ANSWERED = (JobRow.state == JobState.COMPLETED.value, JobRow.refusal == "")

Arrived = tuple[str, str, str, str, str]


class Feedback:
    """Feedback in the ledger."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def claim(self, at: datetime, lease: timedelta) -> Returned | None:
        """Take the oldest SEG that nobody has looked at; nobody else is given it for `lease`."""
        # What is due later than any lease ends was written by a clock that has been set right since.
        now = or_(FeedbackRow.due_at <= at, FeedbackRow.due_at > at + 2 * lease)
        due = select(FeedbackRow).where(FeedbackRow.state == FeedbackState.RECEIVED.value, now)
        with reading(self._engine) as session:
            if session.scalar(due.limit(1)) is None:
                return None
        with writing(self._engine) as session:
            row = session.scalar(due.order_by(FeedbackRow.id).limit(1).with_for_update(skip_locked=True))
            if row is None or row.digest is None:
                return None
            row.due_at, row.attempts = at + lease, row.attempts + 1
            return Returned(id=row.id, study_instance_uid=row.study_uid, digest=row.digest, attempts=row.attempts)

    def candidates(self, study: str) -> list[Candidate]:
        """Return the answers that feedback of a study may be on."""
        with reading(self._engine) as session:
            jobs = session.scalars(select(JobRow).where(JobRow.study_uid == study, *_ANSWERED)).all()
            return [_candidate(session, job) for job in jobs]

    def series(self, study: str, instances: Iterable[str]) -> frozenset[str]:
        """Return the series of a study that hold these SOP instances."""
        uids = sorted(instances)
        found: set[str] = set()
        with reading(self._engine) as session:
            for some in parts(uids):
                named = InstanceRow.sop_instance_uid.in_(some)
                query = select(InstanceRow.series_uid).where(InstanceRow.study_uid == study, named)
                found |= set(session.scalars(query.distinct()))
        return frozenset(found)

    def outline(self, job: int) -> Outline | None:
        """Return a job's SEG, None where it answered that there is nothing to outline."""
        of_job = (OutputRow.job_id == job) & (OutputRow.kind == OutputKind.SEGMENTATION.value)
        with reading(self._engine) as session:
            row = session.scalar(select(OutputRow).where(of_job))
            return None if row is None else Outline(digest=row.digest, freed=row.freed)

    def settle(self, feedback: int, outcome: Outcome, at: datetime) -> None:
        """Commit what a look at it gave."""
        with writing(self._engine) as session:
            row = session.get_one(FeedbackRow, feedback, with_for_update=True)
            note(session, "feedback", (row.id, row.state, outcome.state.value), at, outcome.detail)
            row.state, row.job_id, row.detail = outcome.state.value, outcome.job_id, outcome.detail
            row.evidence = outcome.evidence.value if outcome.evidence else ""
            row.dice, row.ml = outcome.dice, outcome.ml

    def say(self, job: int, kind: FeedbackKind, by: str, at: datetime) -> None:
        """Record somebody's word on an answer; the newest on it counts.

        Raises:
            RefusedError: the job has no answer.
        """
        with writing(self._engine) as session:
            row = session.scalar(select(JobRow).where(JobRow.id == job, *_ANSWERED))
            if row is None:
                raise RefusedError(f"job {job} has no answer to accept or reject; see `overread jobs list`")
            state = FeedbackState.LINKED.value
            stated = FeedbackRow(
                kind=kind.value,
                state=state,
                at=at,
                by=by,
                study_uid=row.study_uid,
                job_id=job,
                evidence=Evidence.STATED.value,
                due_at=at,
            )
            session.add(stated)
            session.flush()
            note(session, "feedback", (stated.id, "", state), at, f"{kind.value} by {by}")

    def exported(self, feedback: Sequence[int], at: datetime) -> None:
        """Note that corrections were handed over; their files may be freed some time after."""
        with writing(self._engine) as session:
            mine = FeedbackRow.id.in_(feedback) & FeedbackRow.exported_at.is_(None)
            session.execute(update(FeedbackRow).where(mine).values(exported_at=at))


def returned(instance: Instance) -> bool:
    """Return whether it is nothing to read, but what somebody made of a result."""
    return instance.sop_class_uid == SOP_CLASSES[OutputKind.SEGMENTATION]


def take_back(connection: Connection, instance: Instance, association: str, most: tuple[int, int]) -> Verdict:
    """Record a returned SEG, unless we made it; its study's row is neither read nor written.

    `most` is how many, and how many bytes, a study takes.
    """
    uid = instance.sop_instance_uid
    if connection.scalar(select(OutputRow.id).where(OutputRow.sop_instance_uid == uid)) is not None:
        return Verdict.OURS
    here = select(FeedbackRow.digest).where(FeedbackRow.sop_instance_uid == uid)
    known = set(connection.scalars(here))
    if instance.digest in known:
        same = (FeedbackRow.sop_instance_uid == uid) & (FeedbackRow.digest == instance.digest)
        connection.execute(update(FeedbackRow).where(same).values(freed=False))
        return Verdict.DUPLICATE
    of_study = select(func.count(), func.sum(FeedbackRow.size)).where(
        FeedbackRow.study_uid == instance.study_instance_uid, FeedbackRow.digest.is_not(None)
    )
    count, size = connection.execute(of_study).one()
    if count >= min(MOST_OF_STUDY, most[0]):
        return Verdict.TOO_MANY
    if int(size or 0) + instance.size > most[1]:
        return Verdict.TOO_LARGE
    connection.execute(insert(FeedbackRow).values(_row(connection, instance, association)))
    return Verdict.CONFLICT if known else Verdict.STORED


def unended(session: Session, left: Iterable[ColumnElement[bool]]) -> list[Arrived]:
    """Return what came back on such associations: association, AE title, study, patient, SOP class."""
    query = (
        select(AssociationRow.id, AssociationRow.calling_ae, FeedbackRow.study_uid, FeedbackRow.patient_key)
        .join(FeedbackRow, FeedbackRow.association == AssociationRow.id)
        .where(*left)
    )
    sop_class = SOP_CLASSES[OutputKind.SEGMENTATION]
    return [(one, ae, study, patient, sop_class) for one, ae, study, patient in session.execute(query).all()]


def _row(connection: Connection, instance: Instance, association: str) -> dict[str, object]:
    calling = select(AssociationRow.calling_ae).where(AssociationRow.id == association)
    return {
        "kind": FeedbackKind.CORRECTION.value,
        "state": FeedbackState.RECEIVED.value,
        "at": instance.received_at,
        "by": connection.scalar(calling) or "",
        "study_uid": instance.study_instance_uid,
        "evidence": "",
        "detail": "",
        "sop_instance_uid": instance.sop_instance_uid,
        "digest": instance.digest,
        "size": instance.size,
        "freed": False,
        "association": association,
        "patient_key": instance.patient_key,
        "attempts": 0,
        "due_at": instance.received_at,
    }


def _candidate(session: Session, job: JobRow) -> Candidate:
    outputs = session.scalars(select(OutputRow.sop_instance_uid).where(OutputRow.job_id == job.id))
    return Candidate(
        job_id=job.id,
        model=job.bundle,
        tracking_uid=derive(Role.TRACKING, job.key, "0"),
        outputs=frozenset(outputs),
        series=frozenset(map(str, job.series.values())),
    )
