"""Studies to jobs, jobs under lease, results in one transaction."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Engine, Select, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from daemon.domain.assembly import Completeness, Refusal, StudyFacts
from daemon.domain.job import JobInput, JobState, Lease, job_key, may_move
from daemon.domain.model_bundle import BundleRef
from daemon.domain.output import OutputKind
from daemon.domain.pause import Activity
from daemon.domain.references import Reference
from daemon.domain.work import Claimed, Result
from daemon.ledger.engine import reading, writing
from daemon.ledger.listings import inquiry_of, listings_of
from daemon.ledger.pauses import paused
from daemon.ledger.rows import IllegalTransitionError, findings_json, instance_of, note
from daemon.ledger.tables import AssociationRow, DeliveryRow, InstanceRow, JobRow, OutputRow, StudyRow


class Jobs:
    """Jobs in the ledger."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def waiting_studies(self) -> list[StudyFacts]:
        """Return the studies with instances that no decision has seen."""
        with reading(self._engine) as session:
            uids = session.scalars(select(StudyRow.uid).where(StudyRow.dirty).order_by(StudyRow.last_at)).all()
            return [_study(session, uid) for uid in uids]

    def note_verdict(self, study: StudyFacts, completeness: Completeness) -> None:
        """Keep the evidence for the administrator; only where it changed."""
        with reading(self._engine) as session:
            row = session.get_one(StudyRow, study.study_instance_uid)
            if (row.verdict, row.evidence) == (completeness.verdict.value, completeness.evidence):
                return
        with writing(self._engine) as session:
            row = session.get_one(StudyRow, study.study_instance_uid)
            row.verdict, row.evidence = completeness.verdict.value, completeness.evidence

    def settle(
        self, study: StudyFacts, jobs: Sequence[tuple[JobInput, BundleRef]], refusal: Refusal | None, at: datetime
    ) -> bool:
        """Commit the decision on a study: its jobs, or the reason for none.

        Returns:
            False where instances came, or were one too many, since `study` was read; nothing is written then.
        """
        with writing(self._engine) as session:
            row = session.get_one(StudyRow, study.study_instance_uid)
            if (row.instances, row.oversize) != (len(study.instances), study.oversize):
                return False
            row.dirty = False
            row.refusal = refusal.reason.value if refusal else ""
            for job_input, bundle in jobs:
                _schedule(session, job_input, bundle, at)
        return True

    def claim(self, worker: str, at: datetime, lease_for: timedelta) -> Claimed | None:
        """Take the oldest job that is due, or whose worker's lease ran out.

        A job that supersedes one in progress waits for it: its report must name the other's. One that it supersedes and
        that was given back meanwhile is cancelled: it would answer with less, after it. While jobs are paused there is
        none.
        """
        lapsed = (JobRow.state == JobState.IN_PROGRESS) & (JobRow.lease_until < at)
        elder, younger = aliased(JobRow), aliased(JobRow)
        held = _akin(elder).where(elder.id < JobRow.id, elder.state == JobState.IN_PROGRESS).exists()
        stale = _akin(younger).where(younger.id > JobRow.id, younger.state == JobState.SCHEDULED).exists()
        due = (JobRow.state == JobState.SCHEDULED) & (JobRow.not_before <= at) & ~held & ~stale
        ready = select(JobRow.id).where(or_(due, lapsed), ~paused(Activity.JOBS))
        query = ready.order_by(JobRow.created_at, JobRow.id).limit(1)
        with reading(self._engine) as session:
            if session.scalar(query) is None:
                return None
        with writing(self._engine) as session:
            job = session.scalar(select(JobRow).where(JobRow.id == query.scalar_subquery()).with_for_update())
            if job is None:
                return None
            if job.state == JobState.IN_PROGRESS:
                _move(session, job, JobState.SCHEDULED, at, "lease ran out")
            for older in session.scalars(_before(job, JobState.SCHEDULED)).all():
                _move(session, older, JobState.CANCELED, at, f"superseded by job {job.id} before it was done")
            _move(session, job, JobState.IN_PROGRESS, at, worker)
            job.fence += 1
            job.attempts += 1
            job.worker, job.lease_until = worker, at + lease_for
            return _claimed(session, job)

    def renew(self, lease: Lease, until: datetime) -> bool:
        """Extend a lease; False where it is another's by now."""
        with writing(self._engine) as session:
            changed = session.execute(
                update(JobRow)
                .where(JobRow.id == lease.job_id, JobRow.fence == lease.fence, JobRow.state == JobState.IN_PROGRESS)
                .values(lease_until=until)
            )
            return bool(changed.rowcount)  # type: ignore[attr-defined]

    def complete(self, lease: Lease, result: Result, at: datetime) -> bool:
        """Commit outputs, deliveries and COMPLETED at once; False where the lease is another's by now."""
        with writing(self._engine) as session:
            job = _held(session, lease)
            if job is None:
                return False
            for output in result.outputs:
                row = OutputRow(
                    job_id=job.id,
                    kind=output.kind.value,
                    sop_class_uid=output.sop_class_uid,
                    sop_instance_uid=output.sop_instance_uid,
                    series_uid=output.series_instance_uid,
                    digest=output.digest,
                    size=output.size,
                )
                session.add(row)
                session.flush()
                for name in result.destinations:
                    session.add(
                        DeliveryRow(output_id=row.id, destination=name, state="PENDING", created_at=at, due_at=at)
                    )
            job.findings = findings_json(result.findings)
            job.seconds = dict(result.seconds)
            _move(session, job, JobState.COMPLETED, at, "")
        return True

    def fail(self, lease: Lease, reason: str, detail: str, at: datetime) -> bool:
        """Commit FAILED with its reason; False where the lease is another's by now."""
        with writing(self._engine) as session:
            job = _held(session, lease)
            if job is None:
                return False
            job.reason, job.detail = reason, detail
            _move(session, job, JobState.FAILED, at, detail)
        return True

    def release(self, lease: Lease, detail: str, at: datetime, not_before: datetime) -> bool:
        """Give a job back to be tried again; False where the lease is another's by now."""
        with writing(self._engine) as session:
            job = _held(session, lease)
            if job is None:
                return False
            job.detail, job.not_before = detail, not_before
            _move(session, job, JobState.SCHEDULED, at, detail)
        return True

    def retry(self, job_id: int, at: datetime) -> None:
        """Schedule a failed or cancelled job again.

        Raises:
            IllegalTransitionError: its state does not allow it, or a newer job answers for the study.
            NoResultFound: there is no such job.
        """
        with writing(self._engine) as session:
            job = session.get_one(JobRow, job_id)
            _check_newest(session, job)
            job.attempts, job.not_before, job.reason, job.detail = 0, at, "", ""
            _move(session, job, JobState.SCHEDULED, at, "asked by administrator")

    def cancel(self, job_id: int, at: datetime) -> None:
        """Cancel a scheduled job; raises as `retry`."""
        with writing(self._engine) as session:
            _move(session, session.get_one(JobRow, job_id), JobState.CANCELED, at, "asked by administrator")


def _study(session: Session, uid: str) -> StudyFacts:
    rows = session.scalars(
        select(InstanceRow).where(InstanceRow.study_uid == uid, ~InstanceRow.conflict).order_by(InstanceRow.id)
    ).all()
    opened = select(func.count(func.distinct(AssociationRow.id))).join(
        InstanceRow, InstanceRow.association == AssociationRow.id
    )
    still = session.scalar(opened.where(InstanceRow.study_uid == uid, AssociationRow.closed_at.is_(None)))
    conflicts = session.scalar(
        select(func.count()).select_from(InstanceRow).where(InstanceRow.study_uid == uid, InstanceRow.conflict)
    )
    listings, notified_at = listings_of(session, uid)
    return StudyFacts(
        study_instance_uid=uid,
        instances=tuple(instance_of(row.facts) for row in rows),
        open_associations=still or 0,
        conflicts=conflicts or 0,
        oversize=session.get_one(StudyRow, uid).oversize,
        listings=listings,
        notified_at=notified_at,
        inquiry=inquiry_of(session, uid),
    )


def _schedule(session: Session, job_input: JobInput, bundle: BundleRef, at: datetime) -> None:
    key = job_key(job_input, bundle.digest)
    if session.scalar(select(JobRow.id).where(JobRow.key == key)) is not None:
        return
    before = session.scalar(
        select(JobRow)
        .where(JobRow.study_uid == job_input.study_instance_uid, JobRow.bundle == bundle.name)
        .order_by(JobRow.id.desc())
        .limit(1)
    )
    if before is not None and before.state == JobState.SCHEDULED:
        _move(session, before, JobState.CANCELED, at, "superseded before it ran")
    job = JobRow(
        key=key,
        study_uid=job_input.study_instance_uid,
        bundle=bundle.name,
        bundle_version=bundle.version,
        bundle_digest=bundle.digest,
        series=dict(job_input.series),
        digests=list(job_input.instance_digests),
        state=JobState.SCHEDULED.value,
        created_at=at,
        not_before=at,
        supersedes=before.id if before else None,
    )
    session.add(job)
    session.flush()
    note(session, "job", (job.id, "", JobState.SCHEDULED.value), at, "study assembled")


def _move(session: Session, job: JobRow, new: JobState, at: datetime, detail: str) -> None:
    old = JobState(job.state)
    if not may_move(old, new):
        raise IllegalTransitionError(f"job {job.id} is {old.value} and cannot become {new.value}")
    job.state = new.value
    job.finished_at = at if new in (JobState.COMPLETED, JobState.FAILED, JobState.CANCELED) else None
    note(session, "job", (job.id, old.value, new.value), at, detail)


def _held(session: Session, lease: Lease) -> JobRow | None:
    return session.scalar(
        select(JobRow)
        .where(JobRow.id == lease.job_id, JobRow.fence == lease.fence, JobRow.state == JobState.IN_PROGRESS)
        .with_for_update()
    )


def _akin(other: type[JobRow]) -> Select[int]:
    """Return the query for jobs `other` on the study of JobRow with its bundle, of whatever version."""
    return select(other.id).where(other.study_uid == JobRow.study_uid, other.bundle == JobRow.bundle)


def _before(job: JobRow, state: JobState) -> Select[JobRow]:
    """Return the query for jobs in `state` that `job` supersedes, the oldest first."""
    older = select(JobRow).where(JobRow.study_uid == job.study_uid, JobRow.bundle == job.bundle, JobRow.id < job.id)
    return older.where(JobRow.state == state).order_by(JobRow.id)


def _check_newest(session: Session, job: JobRow) -> None:
    ended = (JobState.FAILED.value, JobState.CANCELED.value)
    newer = session.scalar(
        select(func.max(JobRow.id)).where(
            JobRow.study_uid == job.study_uid,
            JobRow.bundle == job.bundle,
            JobRow.id > job.id,
            JobRow.state.not_in(ended),
        )
    )
    if newer is not None:
        raise IllegalTransitionError(f"job {job.id} was superseded by job {newer}, which answers for the study")


def _claimed(session: Session, job: JobRow) -> Claimed:
    answered = session.scalars(_before(job, JobState.COMPLETED)).all()
    newest = answered[-1].id if answered else None
    wanted = select(OutputRow).where(OutputRow.job_id == newest, OutputRow.kind == OutputKind.REPORT.value)
    until = job.lease_until
    if until is None:
        raise IllegalTransitionError(f"job {job.id} was claimed without a lease")
    return Claimed(
        lease=Lease(job_id=job.id, fence=job.fence, worker=job.worker, expires_at=until),
        key=job.key,
        input=JobInput(
            study_instance_uid=job.study_uid, series=job.series, instance_digests=tuple(str(d) for d in job.digests)
        ),
        bundle=BundleRef(name=job.bundle, version=job.bundle_version, digest=job.bundle_digest),
        created_at=job.created_at,
        attempts=job.attempts,
        predecessors=tuple(
            Reference(
                study_instance_uid=job.study_uid,
                series_instance_uid=row.series_uid,
                sop_class_uid=row.sop_class_uid,
                sop_instance_uid=row.sop_instance_uid,
            )
            for row in session.scalars(wanted)
        ),
        revision=len(answered) + 1,
    )
