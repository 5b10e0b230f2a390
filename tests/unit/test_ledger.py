"""The ledger: durable, constrained, migrated, safe between workers."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine

from daemon.domain.assembly import Refusal
from daemon.domain.delivery import DeliveryState, Destination, RetryPolicy, Selection
from daemon.domain.evidence import Notice, SeriesNotice
from daemon.domain.job import JobInput
from daemon.domain.model_bundle import BundleRef
from daemon.domain.output import Output, OutputKind
from daemon.domain.reasons import Reason
from daemon.domain.reception import Verdict
from daemon.domain.work import Change, Result
from daemon.ledger.deliveries import Deliveries
from daemon.ledger.files import Files
from daemon.ledger.intake import Intake
from daemon.ledger.jobs import Jobs
from daemon.ledger.listings import Listings
from daemon.ledger.queries import Queries
from daemon.ledger.revision import behind
from daemon.ledger.rows import IllegalTransitionError
from daemon.ledger.tables import Base
from tests.instances import NOW, series

LEASE = timedelta(seconds=30)
BUNDLE = BundleRef(name="brain-mri", version="1", digest="d" * 64)


@pytest.fixture
def intake(engine: Engine) -> Intake:
    """Where instances come in, an association open."""
    made = Intake(engine)
    made.opened("a1", "MR1", NOW)
    return made


def scheduled(engine: Engine, intake: Intake, digests: tuple[str, ...] = ("x",)) -> Jobs:
    """Return jobs with one scheduled."""
    for instance in series(3):
        intake.record(instance, "a1")
    intake.closed("a1", NOW)
    jobs = Jobs(engine)
    study = jobs.waiting_studies()[0]
    job_input = JobInput(study_instance_uid="1.2", series={"MR": "1.2.5"}, instance_digests=digests)
    assert jobs.settle(study, [(job_input, BUNDLE)], None, NOW)
    return jobs


def output() -> Output:
    return Output(
        kind=OutputKind.REPORT,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
        sop_instance_uid="9.1",
        series_instance_uid="9",
        digest="o" * 64,
        size=10,
    )


def test_migrations_make_the_tables(engine: Engine) -> None:
    """After all migrations nothing differs from the tables in code."""
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    assert not behind(engine)


def test_commits_survive_loss_of_power(engine: Engine) -> None:
    """SQLite runs in WAL with synchronous=FULL; PostgreSQL says success when its log is flushed."""
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
            return
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2


def test_equal_bytes_are_a_duplicate_and_other_bytes_a_conflict(engine: Engine, intake: Intake) -> None:
    """A duplicate changes nothing; a conflict is kept beside and flagged, and is no part of the study."""
    first = series(1)[0]
    assert intake.record(first, "a1") is Verdict.STORED
    assert intake.record(first, "a1") is Verdict.DUPLICATE
    assert intake.record(replace(first, digest="other"), "a1") is Verdict.CONFLICT
    study = Jobs(engine).waiting_studies()[0]
    assert (len(study.instances), study.conflicts, study.open_associations) == (1, 1, 1)


def test_many_threads_record_at_once(engine: Engine, intake: Intake) -> None:
    """Group commit loses nothing and stores nothing twice."""
    instances = series(60)
    with ThreadPoolExecutor(8) as pool:
        verdicts = list(pool.map(lambda i: intake.record(i, "a1"), instances + instances))
    assert verdicts.count(Verdict.STORED) == 60
    assert verdicts.count(Verdict.DUPLICATE) == 60
    assert Queries(engine).counts()["instances"]["stored"] == 60


def test_a_decision_on_an_old_view_is_not_written(engine: Engine, intake: Intake) -> None:
    """An instance that comes while a decision is made keeps the study open."""
    for instance in series(3):
        intake.record(instance, "a1")
    jobs = Jobs(engine)
    study = jobs.waiting_studies()[0]
    intake.record(series(4)[3], "a1")
    refusal = Refusal(reason=Reason.TOO_FEW_SLICES, detail="")
    assert not jobs.settle(study, [], refusal, NOW)
    assert jobs.waiting_studies()


def test_a_decision_without_what_was_notified_since_is_not_written(engine: Engine, intake: Intake) -> None:
    """A notification of more that comes while a decision is made keeps the study open, and is in the next one."""
    for instance in series(3):
        intake.record(instance, "a1")
    jobs, refusal = Jobs(engine), Refusal(reason=Reason.TOO_FEW_SLICES, detail="")
    study = jobs.waiting_studies()[0]
    said = SeriesNotice(
        series_instance_uid="1.2.5", modality="MR", online=frozenset({"7"}), elsewhere=frozenset(), retrieve_ae="PACS"
    )
    assert Listings(engine).notified(Notice(study_instance_uid="1.2", series=(said,)), NOW)
    assert not jobs.settle(study, [], refusal, NOW)
    (again,) = jobs.waiting_studies()
    assert again.listed == {"1.2.5": {"7"}}
    assert jobs.settle(again, [], refusal, NOW)
    assert jobs.waiting_studies() == []


def test_the_same_input_makes_one_job(engine: Engine, intake: Intake) -> None:
    """Settling the same input again schedules nothing new; another digest supersedes."""
    jobs = scheduled(engine, intake)
    intake.record(series(4)[3], "a1")
    study = jobs.waiting_studies()[0]
    same = JobInput(study_instance_uid="1.2", series={"MR": "1.2.5"}, instance_digests=("x",))
    more = JobInput(study_instance_uid="1.2", series={"MR": "1.2.5"}, instance_digests=("x", "y"))
    assert jobs.settle(study, [(same, BUNDLE), (more, BUNDLE)], None, NOW)
    views = Queries(engine).jobs()
    assert [(v.id, v.supersedes) for v in views] == [(2, 1), (1, None)]


def later(jobs: Jobs, intake: Intake, known: int, digests: tuple[str, ...]) -> None:
    intake.record(series(known + 1)[known], "a1")
    more = JobInput(study_instance_uid="1.2", series={"MR": "1.2.5"}, instance_digests=digests)
    assert jobs.settle(jobs.waiting_studies()[0], [(more, BUNDLE)], None, NOW)


def test_late_instances_replace_a_job_that_has_not_begun(engine: Engine, intake: Intake) -> None:
    """One study, one answer: what has not begun is cancelled in favour of the fuller job."""
    jobs = scheduled(engine, intake)
    later(jobs, intake, 3, ("x", "y"))
    assert [(v.id, v.state) for v in Queries(engine).jobs()] == [(2, "SCHEDULED"), (1, "CANCELED")]
    claimed = jobs.claim("w1", NOW, LEASE)
    assert claimed is not None
    assert (claimed.lease.job_id, claimed.predecessors) == (2, ())
    assert jobs.claim("w2", NOW, LEASE) is None


def test_a_superseded_job_is_due_again_where_the_newer_one_failed(engine: Engine, intake: Intake) -> None:
    """A study that is to be read as before after all is not left without an answer; the newer one goes first."""
    jobs = scheduled(engine, intake)
    elder = jobs.claim("w1", NOW, LEASE)
    assert elder is not None
    assert jobs.release(elder.lease, "disk away", NOW, NOW + timedelta(days=1))
    later(jobs, intake, 3, ("x", "y"))
    later(jobs, intake, 4, ("x",))
    assert [v.state for v in Queries(engine).jobs()] == ["SCHEDULED", "CANCELED"]
    newer = jobs.claim("w1", NOW, LEASE)
    assert newer is not None
    assert jobs.fail(newer.lease, "MODEL", "", NOW)
    later(jobs, intake, 5, ("x",))
    claimed = jobs.claim("w1", NOW, LEASE)
    assert claimed is not None
    assert (claimed.lease.job_id, claimed.attempts) == (1, 1)


def test_what_an_administrator_cancelled_stays_so(engine: Engine, intake: Intake) -> None:
    """The same input, chosen again, does not undo it."""
    jobs = scheduled(engine, intake)
    jobs.cancel(1, NOW)
    later(jobs, intake, 3, ("x",))
    assert [v.state for v in Queries(engine).jobs()] == ["CANCELED"]


def test_a_supplementary_job_waits_for_its_elder_and_names_its_report(engine: Engine, intake: Intake) -> None:
    """Two workers never answer one study side by side; a failure in between does not break the chain."""
    jobs = scheduled(engine, intake)
    elder = jobs.claim("w1", NOW, LEASE)
    assert elder is not None
    later(jobs, intake, 3, ("x", "y"))
    assert jobs.claim("w2", NOW, LEASE) is None
    report = output()
    assert jobs.complete(elder.lease, Result(findings=None, outputs=(report,), destinations=(), seconds={}), NOW)
    failing = jobs.claim("w2", NOW, LEASE)
    assert failing is not None
    assert [p.sop_instance_uid for p in failing.predecessors] == [report.sop_instance_uid]
    assert jobs.fail(failing.lease, "MODEL", "", NOW)
    later(jobs, intake, 4, ("x", "y", "z"))
    last = jobs.claim("w2", NOW, LEASE)
    assert last is not None
    assert last.predecessors == failing.predecessors


def test_a_job_has_one_worker_at_a_time(engine: Engine, intake: Intake) -> None:
    """A claimed job is nobody else's until its lease runs out."""
    jobs = scheduled(engine, intake)
    assert jobs.claim("w1", NOW, LEASE) is not None
    assert jobs.claim("w2", NOW + timedelta(seconds=29), LEASE) is None
    assert jobs.claim("w2", NOW + timedelta(seconds=31), LEASE) is not None


def test_a_worker_that_lost_its_lease_writes_nothing(engine: Engine, intake: Intake) -> None:
    """The loser's result is refused by its fence; the winner's stands."""
    jobs = scheduled(engine, intake)
    loser = jobs.claim("w1", NOW, LEASE)
    winner = jobs.claim("w2", NOW + LEASE * 2, LEASE)
    assert loser is not None
    assert winner is not None
    result = Result(findings=None, outputs=(output(),), destinations=(Destination(name="pacs"),), seconds={})
    assert not jobs.complete(loser.lease, result, NOW)
    assert not jobs.renew(loser.lease, NOW + LEASE * 9)
    assert jobs.complete(winner.lease, result, NOW)
    assert len(Queries(engine).outputs()) == 1


def test_completed_jobs_cannot_be_retried(engine: Engine, intake: Intake) -> None:
    """An illegal transition is refused and nothing is written."""
    jobs = scheduled(engine, intake)
    claimed = jobs.claim("w1", NOW, LEASE)
    assert claimed is not None
    jobs.complete(claimed.lease, Result(findings=None, outputs=(), destinations=(), seconds={}), NOW)
    with pytest.raises(IllegalTransitionError, match="COMPLETED"):
        jobs.retry(1, NOW)
    assert [e.new for e in Queries(engine).events(1)] == ["SCHEDULED", "IN PROGRESS", "COMPLETED"]


def test_failed_jobs_are_kept_with_their_reason_and_can_be_retried(engine: Engine, intake: Intake) -> None:
    """FAILED keeps reason and detail; a retry schedules it afresh."""
    jobs = scheduled(engine, intake)
    claimed = jobs.claim("w1", NOW, LEASE)
    assert claimed is not None
    jobs.fail(claimed.lease, Reason.MISSING_SLICES.value, "gap", NOW)
    view = Queries(engine).job(1)
    assert view is not None
    assert (view.state, view.reason) == ("FAILED", "missing-slices")
    jobs.retry(1, NOW)
    assert jobs.claim("w1", NOW, LEASE) is not None


def delivered(engine: Engine, intake: Intake) -> Deliveries:
    jobs = scheduled(engine, intake)
    claimed = jobs.claim("w1", NOW, LEASE)
    assert claimed is not None
    result = Result(findings=None, outputs=(output(),), destinations=(Destination(name="pacs"),), seconds={})
    jobs.complete(claimed.lease, result, NOW)
    return Deliveries(engine)


def test_only_confirmed_studies_may_be_freed(engine: Engine, intake: Intake) -> None:
    """Sent is not enough; after the destination's commitment the study's files may go."""
    deliveries, files = delivered(engine, intake), Files(engine)
    later = NOW + timedelta(days=9)
    sent = Change(id=1, state=DeliveryState.SENT, due_at=NOW, detail="", transaction_uid="7")
    assert files.freeable(later) == []
    deliveries.change([sent], NOW)
    assert files.freeable(later) == []
    assert deliveries.committed("7", ["9.1"], {}, NOW) == 1
    assert len(files.freeable(later)) == 4
    assert files.freeable(NOW - timedelta(days=1)) == []


def test_what_is_due_is_asked_for_by_destination(engine: Engine, intake: Intake) -> None:
    """A destination's thread gets what goes there alone, and who buries what goes to none of those that are known."""
    deliveries = delivered(engine, intake)
    assert [d.id for d in deliveries.due(DeliveryState.PENDING, NOW, to="pacs")] == [1]
    assert deliveries.due(DeliveryState.PENDING, NOW, to="other") == []
    assert [d.id for d in deliveries.due(DeliveryState.PENDING, NOW, beside=["other"])] == [1]
    assert deliveries.due(DeliveryState.PENDING, NOW, beside={"pacs": ""}) == []


def test_what_a_report_has_confirmed_meanwhile_stays_so(engine: Engine, intake: Intake) -> None:
    """A change of what is still SENT leaves what is no longer; else it is an error, and nothing is written."""
    deliveries = delivered(engine, intake)
    deliveries.change([Change(id=1, state=DeliveryState.SENT, due_at=NOW, detail="", transaction_uid="7")], NOW)
    assert deliveries.committed("7", ["9.1"], {}, NOW) == 1
    late = [Change(id=1, state=DeliveryState.PENDING, due_at=NOW, detail="not listed")]
    deliveries.change(late, NOW, only=DeliveryState.SENT)
    with pytest.raises(IllegalTransitionError):
        deliveries.change(late, NOW)
    assert Queries(engine).deliveries()[0].state == "CONFIRMED"


def test_what_a_destination_does_not_commit_is_sent_again(engine: Engine, intake: Intake) -> None:
    """A failed commitment makes the delivery PENDING; a foreign transaction changes nothing."""
    deliveries = delivered(engine, intake)
    deliveries.change([Change(id=1, state=DeliveryState.SENT, due_at=NOW, detail="", transaction_uid="7")], NOW)
    assert deliveries.committed("8", ["9.1"], {}, NOW) == 0
    assert deliveries.committed("7", [], {"9.1": 0x0213}, NOW) == 1
    assert deliveries.due(DeliveryState.PENDING, NOW) == []
    assert [d.id for d in deliveries.due(DeliveryState.PENDING, NOW + timedelta(minutes=1))] == [1]


def test_what_is_never_committed_is_dead_after_days(engine: Engine, intake: Intake) -> None:
    """A destination that takes an object and denies it each time does not get it for ever."""
    delivered(engine, intake)
    policy = RetryPolicy(first=timedelta(hours=12), longest=timedelta(days=2))
    deliveries, at = Deliveries(engine, policy), NOW
    for _ in range(20):
        deliveries.change([Change(id=1, state=DeliveryState.SENT, due_at=at, detail="", transaction_uid="7")], at)
        deliveries.committed("7", [], {"9.1": 0x0213}, at)
        view = Queries(engine).deliveries()[0]
        if view.state == "DEAD":
            break
        at = view.due_at
    assert "resource limitation" in view.detail
    assert at - NOW >= timedelta(days=7)


def test_dead_deliveries_wait_for_an_administrator(engine: Engine, intake: Intake) -> None:
    """A dead delivery is never due; a replay makes it PENDING with its attempts forgotten."""
    deliveries = delivered(engine, intake)
    deliveries.change([Change(id=1, state=DeliveryState.DEAD, due_at=NOW, detail="refused")], NOW)
    assert deliveries.due(DeliveryState.PENDING, NOW + timedelta(days=1)) == []
    assert deliveries.replay(Selection(ids=(1,)), NOW) == 1
    assert deliveries.due(DeliveryState.PENDING, NOW)[0].attempts == 0


@pytest.mark.parametrize(
    ("selection", "replayed"),
    [
        (Selection(), 1),
        (Selection(destination="pacs", states=(DeliveryState.DEAD,), since=NOW), 1),
        (Selection(destination="other"), 0),
        (Selection(states=(DeliveryState.UNCONFIRMED,)), 0),
        (Selection(states=(DeliveryState.PENDING,)), 0),
        (Selection(since=NOW + timedelta(seconds=1)), 0),
    ],
)
def test_a_replay_takes_what_its_selection_says(
    engine: Engine, intake: Intake, selection: Selection, replayed: int
) -> None:
    """Each condition narrows the replay; what has not ended is never replayed."""
    deliveries = delivered(engine, intake)
    deliveries.change([Change(id=1, state=DeliveryState.DEAD, due_at=NOW, detail="refused")], NOW)
    assert deliveries.replay(selection, NOW) == replayed
    assert len(deliveries.due(DeliveryState.PENDING, NOW)) == replayed


def test_a_replay_of_what_has_not_ended_is_refused_whole(engine: Engine, intake: Intake) -> None:
    """A wrong id is named, and nothing is replayed."""
    deliveries = delivered(engine, intake)
    deliveries.change([Change(id=1, state=DeliveryState.DEAD, due_at=NOW, detail="refused")], NOW)
    with pytest.raises(IllegalTransitionError, match="delivery 2, 7"):
        deliveries.replay(Selection(ids=(7, 1, 2)), NOW)
    assert deliveries.due(DeliveryState.PENDING, NOW) == []


def test_destinations_with_unfinished_deliveries_stay(engine: Engine, intake: Intake) -> None:
    """A destination is not removed while something is on its way there."""
    deliveries = delivered(engine, intake)
    deliveries.add_destination(Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=104))
    with pytest.raises(IllegalTransitionError, match="not finished"):
        deliveries.remove_destination("pacs")
    deliveries.change([Change(id=1, state=DeliveryState.DEAD, due_at=NOW, detail="refused")], NOW)
    assert deliveries.remove_destination("pacs")
    assert not deliveries.remove_destination("pacs")
