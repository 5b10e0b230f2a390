"""Several processes on one ledger at the same moment: listeners, workers; each fact is written once."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from threading import Barrier
from typing import TypeVar

import pytest
from sqlalchemy import Engine, func, select, text

from daemon.domain.evidence import Notice, SeriesNotice
from daemon.domain.instance import Instance
from daemon.domain.job import JobInput
from daemon.domain.model_bundle import BundleRef
from daemon.domain.reception import Verdict
from daemon.ledger.engine import LedgerAwayError, connect, reading, writing
from daemon.ledger.holdings import Holdings
from daemon.ledger.intake import Intake
from daemon.ledger.jobs import Jobs
from daemon.ledger.listings import Listings
from daemon.ledger.overview import Overview
from daemon.ledger.queries import Queries
from daemon.ledger.tables import InstanceRow, ListingRow, StudyRow, TransitionRow
from tests.clusters import Cluster
from tests.instances import NOW, series

T = TypeVar("T")
LEASE = timedelta(seconds=30)
BUNDLE = BundleRef(name="brain-mri", version="1", digest="d" * 64)


@pytest.fixture
def other(ledger_url: str) -> Iterator[Engine]:
    """The same ledger, as another machine has it."""
    made = connect(ledger_url)
    yield made
    made.dispose()


def at_once(*calls: Callable[[], T]) -> list[T]:
    """Call all at one moment, each in a thread of its own; return what each returned."""
    start = Barrier(len(calls))

    def run(call: Callable[[], T]) -> T:
        start.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def study(number: int, count: int = 2) -> list[Instance]:
    """Return the instances of one of many studies."""
    return [
        replace(
            instance,
            study_instance_uid=f"1.2.{number}",
            sop_instance_uid=f"{instance.sop_instance_uid}.{number}",
            digest=f"{number}-{instance.digest}",
        )
        for instance in series(count)
    ]


def recording(intake: Intake, instances: list[Instance]) -> Callable[[], list[Verdict]]:
    """Return what records these one after the other."""
    return lambda: [intake.record(instance, "a1") for instance in instances]


def test_two_listeners_take_the_same_instances(engine: Engine, other: Engine) -> None:
    """Each is stored once, whoever was first, and the studies count them once."""
    instances = [one for number in range(8) for one in study(number)]
    backward = sorted(instances, key=lambda one: one.study_instance_uid, reverse=True)
    verdicts = at_once(recording(Intake(engine), instances), recording(Intake(other), backward))
    assert Counter(verdicts[0] + verdicts[1]) == {Verdict.STORED: 16, Verdict.DUPLICATE: 16}
    with reading(engine) as session:
        assert session.scalars(select(StudyRow.instances)).all() == [2] * 8


def test_other_bytes_of_one_uid_at_two_listeners(engine: Engine, other: Engine) -> None:
    """One of them is the instance, the other is flagged, even where neither knew of the other."""
    first = study(1, 12)
    second = [replace(one, digest=f"other-{one.digest}") for one in first]
    verdicts = at_once(recording(Intake(engine), first), recording(Intake(other), second))
    assert [set(pair) for pair in zip(*verdicts, strict=True)] == [{Verdict.STORED, Verdict.CONFLICT}] * 12
    with reading(engine) as session:
        assert session.scalar(select(func.count()).where(InstanceRow.conflict)) == 12
        assert session.scalar(select(StudyRow.instances)) == 12


def test_a_study_at_two_listeners_takes_as_many_as_it_may(engine: Engine, other: Engine) -> None:
    """The limit is of the study, not of each listener."""
    instances = study(1, 40)
    halves = (instances[::2], instances[1::2])
    at_once(*(recording(Intake(one, most=10), part) for one, part in zip((engine, other), halves, strict=True)))
    with reading(engine) as session:
        assert session.scalar(select(StudyRow.instances)) == 10
        assert session.scalar(select(StudyRow.oversize))


def scheduled(engine: Engine, number: int, digests: tuple[str, ...] = ("x",)) -> None:
    """Schedule a job of a study that is there."""
    jobs = Jobs(engine)
    (waiting,) = [one for one in jobs.waiting_studies() if one.study_instance_uid == f"1.2.{number}"]
    job = JobInput(study_instance_uid=f"1.2.{number}", series={"MR": "1.2.5"}, instance_digests=digests)
    assert jobs.settle(waiting, [(job, BUNDLE)], None, NOW)


def claiming(engine: Engine, worker: str, seconds: int = 0) -> Callable[[], list[int]]:
    """Return what takes jobs until there is none."""

    def claim() -> list[int]:
        claims = iter(lambda: Jobs(engine).claim(worker, NOW + timedelta(seconds=seconds), LEASE), None)
        return [claimed.lease.job_id for claimed in claims if claimed]

    return claim


def test_workers_that_claim_at_once_never_share_a_job(engine: Engine, other: Engine) -> None:
    """Each of twenty jobs is claimed once, and again once when the leases have run out."""
    intake = Intake(engine)
    for number in range(20):
        recording(intake, study(number))()
        scheduled(engine, number)
    for seconds in (0, 31):
        workers = [claiming(one, f"w{number}", seconds) for number, one in enumerate((engine, other) * 2)]
        taken = [job for jobs in at_once(*workers) for job in jobs]
        left = claiming(engine, "late", seconds)()
        assert sorted(taken + left) == list(range(1, 21))
    with reading(engine) as session:
        begun = select(func.count()).where(TransitionRow.subject == "job", TransitionRow.new == "IN PROGRESS")
        assert session.scalar(begun) == 40


@pytest.mark.parametrize("number", range(5))
def test_a_study_is_settled_while_its_job_is_claimed(engine: Engine, other: Engine, number: int) -> None:
    """What supersedes a job either cancels it before it began, or waits for it; both are never worked on."""
    intake = Intake(engine)
    recording(intake, study(number))()
    scheduled(engine, number)
    recording(intake, study(number, 3))()
    at_once(lambda: scheduled(other, number, ("x", "y")), lambda: Jobs(engine).claim("w1", NOW, LEASE))
    Jobs(other).claim("w2", NOW, LEASE)
    states = {job.id: job.state for job in Queries(engine).jobs()}
    assert states in ({1: "IN PROGRESS", 2: "SCHEDULED"}, {1: "CANCELED", 2: "IN PROGRESS"})


def test_notifications_of_one_study_at_two_listeners(engine: Engine, other: Engine) -> None:
    """What each lists is kept: neither overwrites the other's."""

    def notice(uid: str) -> Notice:
        one = SeriesNotice(
            series_instance_uid="1.5", modality="MR", online=frozenset({uid}), elsewhere=frozenset(), retrieve_ae="PACS"
        )
        return Notice(study_instance_uid="1.2", series=(one,))

    def notifying(one: Engine, first: int) -> Callable[[], list[bool]]:
        return lambda: [Listings(one).notified(notice(f"1.9.{number}"), NOW) for number in range(first, first + 10)]

    at_once(notifying(engine, 0), notifying(other, 10))
    with reading(engine) as session:
        (row,) = session.scalars(select(ListingRow)).all()
        assert (len(row.sop_instance_uids), row.notices) == (20, 20)


def test_what_no_text_of_a_server_holds_is_replaced(engine: Engine) -> None:
    """A NUL or half a pair in what a peer sent neither stops it nor what is read beside it; real pairs stay."""
    instance = series(1)[0]
    odd = replace(instance.acquisition, series_description="T1\x00\ud83d", protocol_name="\U0001f9e0")
    assert Intake(engine).record(replace(instance, acquisition=odd), "a1") is Verdict.STORED
    with writing(engine) as session:
        session.add(
            TransitionRow(at=NOW, subject="job", subject_id=2**40, old="", new="FAILED", detail="peer said \x00")
        )
    assert Holdings(engine).patient_key("1.2") == instance.patient_key
    assert [event.detail for event in Queries(engine).events(2**40)] == ["peer said \ufffd"]
    (kept,) = Holdings(engine).instances(instance.study_instance_uid, instance.series_instance_uid)
    assert kept.acquisition.protocol_name == "\U0001f9e0"


def test_a_beginning_of_a_uid_is_compared_by_its_characters(engine: Engine) -> None:
    """1.2.1 finds 1.2.1 and 1.2.10, not 1.21: in a language's order the dots would count for nothing."""
    intake = Intake(engine)
    for number, uid in enumerate(("1.2.1", "1.2.10", "1.21", "1.2.2")):
        intake.record(replace(study(number, 1)[0], study_instance_uid=uid), "a1")
    assert {row.uid for row in Overview(engine).studies("1.2.1").rows} == {"1.2.1", "1.2.10"}


def test_a_connection_that_the_server_ended_is_made_anew(postgresql: Cluster) -> None:
    """What was under way on it is an error; an instance is recorded all the same, once."""
    name = postgresql.ledger()
    engine = connect(postgresql.url(name))
    intake, (first, second) = Intake(engine), series(2)
    intake.record(first, "a1")
    ended = text("SELECT pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(LedgerAwayError), writing(engine) as session:
        session.execute(ended)
    with engine.connect() as connection:
        own = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    postgresql.execute(f"SELECT pg_terminate_backend({own})")
    assert intake.record(second, "a1") is Verdict.STORED
    assert Queries(engine).counts()["instances"]["stored"] == 2
    engine.dispose()
    postgresql.drop(name)
