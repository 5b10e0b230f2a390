"""Studies to jobs, jobs under lease, results in one transaction."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Engine, func, or_, select, update
from sqlalchemy.orm import Session

from daemon.domain.assembly import Completeness, Refusal, StudyFacts
from daemon.domain.handling import Handling, Priority, Resource
from daemon.domain.job import JobInput, JobState, Lease, job_key, may_move, refusal_key
from daemon.domain.model_bundle import NO_BUNDLE, BundleRef
from daemon.domain.news import News
from daemon.domain.output import OutputKind
from daemon.domain.reasons import REPORTED, Reason, deserves_report
from daemon.domain.references import Reference
from daemon.domain.second import SHADOW
from daemon.domain.work import Claimed, Result
from daemon.ledger.claims import accompanied, akin, before, hold, leased, oldest, refused, waits
from daemon.ledger.engine import reading, writing
from daemon.ledger.few import WITH_NEWS, in_state
from daemon.ledger.listings import inquiry_of, listings_of
from daemon.ledger.rows import IllegalTransitionError, answer_of, findings_json, instance_of, new_delivery, note
from daemon.ledger.scores import score_row
from daemon.ledger.seconds import second_row
from daemon.ledger.tables import AssociationRow, InstanceRow, JobRow, OutputRow, StudyRow, TransitionRow

# So begins the reason for which a job is cancelled that a newer one makes needless.
_SUPERSEDED = "superseded"


class Jobs:
    """Jobs in the ledger; with `reports`, a study that is not read makes a job that says why in a report."""

    def __init__(self, engine: Engine, *, reports: bool = False) -> None:
        self._engine = engine
        self._reports = reports

    def waiting_studies(self) -> list[StudyFacts]:
        """Return the studies with instances that no decision has seen."""
        with reading(self._engine) as session:
            rows = session.scalars(select(StudyRow).where(*WITH_NEWS).order_by(StudyRow.last_at)).all()
            return [_study(session, row) for row in rows]

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
            False where instances came, or were one too many, or others said anything of it since `study` was read;
            nothing is written then.
        """
        with writing(self._engine, News.JOB) as session:
            row = session.get_one(StudyRow, study.study_instance_uid, with_for_update={"key_share": True})
            if (row.instances, row.oversize) != (len(study.instances), study.oversize):
                return False
            if listings_of(session, study.study_instance_uid) != (study.listings, study.notified_at):
                return False
            row.dirty = False
            row.refusal = refusal.reason.value if refusal else ""
            for job_input, bundle in jobs:
                _schedule(session, job_input, bundle, at)
            if self._reports and refusal and deserves_report(refusal.reason, study.instances):
                _report(session, _whole(study), NO_BUNDLE, refusal.reason, at)
        return True

    def claim(
        self, worker: str, at: datetime, lease_for: timedelta, resource: Resource | None = None
    ) -> Claimed | None:
        """Take the most urgent job that is ready, the oldest of those, of whatever or of one `resource`.

        What it supersedes and was given back meanwhile is cancelled.
        """
        with reading(self._engine) as session:
            known = waits(session, at, resource)
        if known is None:
            return None
        with writing(self._engine) as session:
            job = oldest(session, at, resource, known)
            if job is None:
                return None
            if job.state == JobState.IN_PROGRESS:
                _move(session, job, JobState.SCHEDULED, at, "lease ran out")
            others = accompanied(session, job)
            if others and not job.refusal:
                _withdraw(session, job, at)
                for older in session.scalars(before(job, JobState.SCHEDULED)).all():
                    _move(session, older, JobState.CANCELED, at, f"{_SUPERSEDED} by job {job.id} before it was done")
            _move(session, job, JobState.IN_PROGRESS, at, worker)
            job.fence += 1
            job.attempts += 1
            job.worker, job.lease_until = worker, at + lease_for
            return _claimed(session, job, _answers(session, job) if others else ())

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
        with writing(self._engine, News.OUTPUT) as session:
            job = leased(session, lease)
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
                for destination in result.destinations:
                    if output.kind in destination.outputs:
                        session.add(new_delivery(row.id, destination.name, at))
            session.execute(update(StudyRow).where(StudyRow.uid == job.study_uid, ~StudyRow.kept).values(kept=True))
            job.findings = findings_json(result.findings)
            job.answer = answer_of(result.findings, job.refusal)
            if result.findings:
                session.add(score_row(job, result.findings))
                session.add_all(second_row(job.id, shadow, SHADOW, at) for shadow in result.shadows)
            job.seconds = dict(result.seconds)
            _move(session, job, JobState.COMPLETED, at, "")
        return True

    def fail(self, lease: Lease, reason: str, detail: str, at: datetime) -> bool:
        """Commit FAILED with its reason; False where the lease is another's by now."""
        with writing(self._engine, News.JOB) as session:
            job = leased(session, lease)
            if job is None:
                return False
            job.reason, job.detail = reason, detail
            _move(session, job, JobState.FAILED, at, detail)
            if self._reports and not job.refusal and reason in REPORTED:
                _report(session, _input(job), _bundle(job), Reason(reason), at)
        return True

    def release(self, lease: Lease, detail: str, at: datetime, not_before: datetime) -> bool:
        """Give a job back to be tried again; False where the lease is another's by now."""
        with writing(self._engine, News.JOB) as session:
            job = leased(session, lease)
            if job is None:
                return False
            job.detail, job.not_before = detail, not_before
            _move(session, job, JobState.SCHEDULED, at, detail)
        return True

    def bereaved(self, worker: str) -> list[tuple[Lease, int]]:
        """Count the death of `worker` against each job in its hands; return their leases, and how many it has seen."""
        held = select(JobRow).where(JobRow.worker == worker, in_state(JobState.IN_PROGRESS))
        with writing(self._engine) as session:
            jobs = session.scalars(held.order_by(JobRow.id).with_for_update(key_share=True)).all()
            for job in jobs:
                job.deaths += 1
            return [(_lease(job), job.deaths) for job in jobs]

    def retry(self, job_id: int, at: datetime) -> None:
        """Schedule a failed or cancelled job again.

        Raises:
            IllegalTransitionError: its state does not allow it, or a newer job answers for the study.
            NoResultFound: there is no such job.
        """
        with writing(self._engine, News.JOB) as session:
            hold(session, job_id)
            job = session.get_one(JobRow, job_id)
            _check_newest(session, job)
            if not job.refusal:
                _withdraw(session, job, at)
            job.attempts, job.deaths, job.not_before, job.reason, job.detail = 0, 0, at, "", ""
            _move(session, job, JobState.SCHEDULED, at, "asked by administrator")

    def cancel(self, job_id: int, at: datetime) -> None:
        """Cancel a scheduled job; raises as `retry`."""
        with writing(self._engine) as session:
            hold(session, job_id)
            _move(session, session.get_one(JobRow, job_id), JobState.CANCELED, at, "asked by administrator")


def _study(session: Session, study: StudyRow) -> StudyFacts:
    uid = study.uid
    here = select(InstanceRow.facts, InstanceRow.conflict).where(InstanceRow.study_uid == uid).order_by(InstanceRow.id)
    rows = session.execute(here).all()
    by = select(InstanceRow.association).where(InstanceRow.study_uid == uid)
    carried = select(AssociationRow.calling_ae, AssociationRow.closed_at).where(AssociationRow.id.in_(by))
    associations = session.execute(carried).all()
    listings, notified_at = listings_of(session, uid)
    return StudyFacts(
        study_instance_uid=uid,
        instances=tuple(instance_of(row.facts) for row in rows if not row.conflict),
        open_associations=sum(a.closed_at is None for a in associations),
        callers=frozenset(a.calling_ae for a in associations),
        conflicts=sum(row.conflict for row in rows),
        oversize=study.oversize,
        listings=listings,
        notified_at=notified_at,
        inquiry=inquiry_of(session, uid),
    )


def _schedule(session: Session, job_input: JobInput, bundle: BundleRef, at: datetime) -> None:
    key = job_key(job_input, bundle.digest)
    known = session.scalar(select(JobRow).where(JobRow.key == key))
    if known is not None:
        if _superseded(session, known):
            _reschedule(session, known, at)
        return
    elder = session.scalar(
        select(JobRow)
        .where(JobRow.study_uid == job_input.study_instance_uid, JobRow.bundle == bundle.name, JobRow.refusal == "")
        .order_by(JobRow.id.desc())
        .limit(1)
    )
    if elder is not None and elder.state == JobState.SCHEDULED:
        _move(session, elder, JobState.CANCELED, at, f"{_SUPERSEDED} before it ran")
    job = _new(session, key, job_input, bundle, at)
    job.supersedes = elder.id if elder else None
    reason = job_input.handling.reason
    note(session, "job", (job.id, "", JobState.SCHEDULED.value), at, f"study assembled{reason and '; '}{reason}")
    _withdraw(session, job, at)


def _superseded(session: Session, job: JobRow) -> bool:
    """Return whether `job` was cancelled in favour of a newer one, and none answers in its place by now."""
    if job.state != JobState.CANCELED:
        return False
    ended = (TransitionRow.subject == "job") & (TransitionRow.subject_id == job.id)
    why = select(TransitionRow.detail).where(ended).order_by(TransitionRow.id.desc()).limit(1)
    if not (session.scalar(why) or "").startswith(_SUPERSEDED):
        return False
    newest = _answering(session, job.study_uid, job.bundle)
    return newest is None or newest < job.id


def _reschedule(session: Session, job: JobRow, at: datetime) -> None:
    """Let a job that was superseded be done after all, as if it were new."""
    job.attempts, job.not_before, job.detail = 0, at, ""
    _move(session, job, JobState.SCHEDULED, at, "its study is to be read so after all")
    _withdraw(session, job, at)


def _report(session: Session, job_input: JobInput, bundle: BundleRef, reason: Reason, at: datetime) -> None:
    """Schedule the report that a study was not processed, once for each study, bundle and reason.

    A study that has an answer of the bundle, or awaits one, gets none; without a bundle, one of any bundle counts.
    """
    study = job_input.study_instance_uid
    if _answering(session, study, bundle.name) is not None:
        return
    key = refusal_key(study, bundle.name, reason)
    job = session.scalar(select(JobRow).where(JobRow.key == key))
    if job is None:
        job = _new(session, key, job_input, bundle, at)
        job.refusal = reason.value
        note(session, "job", (job.id, "", JobState.SCHEDULED.value), at, f"not processed: {reason.value}")
    elif job.state == JobState.CANCELED:
        _move(session, job, JobState.SCHEDULED, at, f"not processed: {reason.value}")
    if job.state == JobState.SCHEDULED:
        job.series, job.digests = dict(job_input.series), list(job_input.instance_digests)
        _withdraw(session, job, at)


def _new(session: Session, key: str, job_input: JobInput, bundle: BundleRef, at: datetime) -> JobRow:
    job = JobRow(
        key=key,
        study_uid=job_input.study_instance_uid,
        bundle=bundle.name,
        bundle_version=bundle.version,
        bundle_digest=bundle.digest,
        series=dict(job_input.series),
        digests=list(job_input.instance_digests),
        unread=list(job_input.unread),
        priority=int(job_input.handling.priority),
        resource=job_input.handling.resource.value,
        state=JobState.SCHEDULED.value,
        created_at=at,
        not_before=at,
    )
    session.add(job)
    session.flush()
    return job


def _withdraw(session: Session, job: JobRow, at: datetime) -> None:
    """Cancel the reports of refusals that `job` makes needless and nobody works on."""
    waiting = select(JobRow).where(refused(JobRow, job), JobRow.state == JobState.SCHEDULED)
    for needless in session.scalars(waiting).all():
        _move(session, needless, JobState.CANCELED, at, f"{_SUPERSEDED} by job {job.id} before it was done")


def _answering(session: Session, study: str, bundle: str) -> int | None:
    """Return the newest job that reads the study with `bundle`, or any where that is empty, and has not failed."""
    ended = (JobState.FAILED.value, JobState.CANCELED.value)
    reads = (JobRow.study_uid == study, JobRow.refusal == "", JobRow.state.not_in(ended))
    query = select(func.max(JobRow.id)).where(*reads)
    return session.scalar(query.where(JobRow.bundle == bundle) if bundle else query)


def _move(session: Session, job: JobRow, new: JobState, at: datetime, detail: str) -> None:
    old = JobState(job.state)
    if not may_move(old, new):
        raise IllegalTransitionError(f"job {job.id} is {old.value} and cannot become {new.value}")
    job.state = new.value
    job.finished_at = at if new in (JobState.COMPLETED, JobState.FAILED, JobState.CANCELED) else None
    job.told_at = None
    note(session, "job", (job.id, old.value, new.value), at, detail)


def _check_newest(session: Session, job: JobRow) -> None:
    newer = _answering(session, job.study_uid, job.bundle)
    if newer is not None and (newer > job.id or job.refusal):
        raise IllegalTransitionError(
            f"job {job.id} was superseded by job {newer}, which reads what came since; see `overread jobs show {newer}`"
        )


def _answers(session: Session, job: JobRow) -> Sequence[int]:
    """Return the jobs whose answers `job` follows, in the order in which they were given; a clock may jump."""
    given = (TransitionRow.subject == "job") & (TransitionRow.new == JobState.COMPLETED.value)
    query = select(JobRow.id).join(TransitionRow, given & (TransitionRow.subject_id == JobRow.id))
    mine = or_(refused(JobRow, job), akin(JobRow, job)) & (JobRow.id != job.id)
    return session.scalars(query.where(mine).order_by(TransitionRow.id)).all()


def _lease(job: JobRow) -> Lease:
    until = job.lease_until
    if until is None:
        raise IllegalTransitionError(f"job {job.id} was claimed without a lease")
    return Lease(job_id=job.id, fence=job.fence, worker=job.worker, expires_at=until)


def _claimed(session: Session, job: JobRow, answered: Sequence[int]) -> Claimed:
    wanted = select(OutputRow).where(OutputRow.job_id.in_(answered[-1:]), OutputRow.kind == OutputKind.REPORT.value)
    return Claimed(
        lease=_lease(job),
        key=job.key,
        input=_input(job),
        bundle=_bundle(job),
        created_at=job.created_at,
        attempts=job.attempts,
        predecessors=tuple(
            Reference(
                study_instance_uid=job.study_uid,
                series_instance_uid=row.series_uid,
                sop_class_uid=row.sop_class_uid,
                sop_instance_uid=row.sop_instance_uid,
            )
            for row in (session.scalars(wanted) if answered else ())
        ),
        revision=len(answered) + 1,
        refusal=Reason(job.refusal) if job.refusal else None,
    )


def _input(job: JobRow) -> JobInput:
    return JobInput(
        study_instance_uid=job.study_uid,
        series=job.series,
        instance_digests=tuple(map(str, job.digests)),
        unread=tuple(map(str, job.unread)),
        handling=Handling(priority=Priority(job.priority)),
    )


def _bundle(job: JobRow) -> BundleRef:
    return BundleRef(name=job.bundle, version=job.bundle_version, digest=job.bundle_digest)


def _whole(study: StudyFacts) -> JobInput:
    digests = tuple(sorted(instance.digest for instance in study.instances))
    return JobInput(study_instance_uid=study.study_instance_uid, series={}, instance_digests=digests)
