"""Which job is taken next, and that no question of the flow looks through what has long been done."""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, event, select

from daemon.domain.handling import Handling, Priority
from daemon.domain.job import JobInput
from daemon.domain.model_bundle import BundleRef
from daemon.ledger.engine import connect, writing
from daemon.ledger.files import Files
from daemon.ledger.intake import Intake
from daemon.ledger.jobs import Jobs
from daemon.ledger.outbox import Outbox
from daemon.ledger.overview import WAITING, Overview
from daemon.ledger.queries import Queries
from daemon.ledger.seconds import Seconds
from daemon.ledger.tables import StudyRow
from tests.clusters import Cluster
from tests.instances import NOW, series

BUNDLE = BundleRef(name="b", version="1", digest="d" * 64)
LEASE = timedelta(minutes=1)
# What a table scan of them takes grows for years.
LARGE = "instances|studies|jobs|outputs|deliveries|transitions"


def schedule(engine: Engine, number: int, priority: Priority = Priority.ROUTINE) -> None:
    """Schedule a job of a study of its own, a second after the one before."""
    jobs, uid = Jobs(engine), f"1.2.{number}"
    Intake(engine).record(replace(series(1, uid=f"{number}")[0], study_instance_uid=uid), "a1")
    (study,) = jobs.waiting_studies()
    job = JobInput(
        study_instance_uid=uid, series={"MR": "1"}, instance_digests=(uid,), handling=Handling(priority=priority)
    )
    assert jobs.settle(study, [(job, BUNDLE)], None, NOW + timedelta(seconds=number))


def claimed(engine: Engine, seconds: int) -> int | None:
    """Return which job is taken so long after `NOW`."""
    found = Jobs(engine).claim("w", NOW + timedelta(seconds=seconds), LEASE)
    return found.lease.job_id if found else None


def test_one_that_was_left_goes_before_those_that_wait_but_not_before_an_urgent_one(engine: Engine) -> None:
    """How urgent it is decides first, then that its worker is gone, then how long it waits."""
    schedule(engine, 1)
    schedule(engine, 2)
    assert claimed(engine, 5) == 1
    schedule(engine, 3, Priority.STAT)
    schedule(engine, 4, Priority.LOW)
    assert [claimed(engine, 100) for _ in range(5)] == [3, 1, 2, 4, None]
    # All four were left: again the most urgent, then the oldest.
    assert [claimed(engine, 200) for _ in range(5)] == [3, 1, 2, 4, None]


def test_where_the_most_urgent_study_is_another_s_at_this_moment_the_next_is_taken(postgresql: Cluster) -> None:
    """No worker waits for another, nor goes without a job; on SQLite one writes at a time."""
    name = postgresql.ledger()
    engine = connect(postgresql.url(name))
    schedule(engine, 1)
    schedule(engine, 2, Priority.STAT)
    with writing(engine) as session:
        assert session.scalar(select(StudyRow.uid).where(StudyRow.uid == "1.2.2").with_for_update()) == "1.2.2"
        assert claimed(engine, 5) == 1
    assert claimed(engine, 5) == 2
    engine.dispose()
    postgresql.drop(name)


def test_a_list_of_studies_counts_the_conflicts_and_jobs_of_each(engine: Engine) -> None:
    """Newest first, whatever its neighbours have."""
    schedule(engine, 1)
    for number in (2, 3):
        one = replace(series(1, uid=f"{number}")[0], study_instance_uid=f"1.2.{number}")
        came = NOW + timedelta(hours=number)
        Intake(engine).record(replace(one, received_at=came), "a1")
        Intake(engine).record(replace(one, received_at=came, digest=f"other{number}"), "a1")
    found = [(one.study_instance_uid, one.instances, one.conflicts, one.jobs) for one in Queries(engine).studies()]
    assert found == [("1.2.3", 1, 1, ()), ("1.2.2", 1, 1, ()), ("1.2.1", 1, 0, ("1 b SCHEDULED",))]


@pytest.fixture
def embedded(migrated: Path, tmp_path: Path) -> Iterator[Engine]:
    """A ledger on SQLite: without statistics its plans are the same whatever the ledger holds."""
    made = connect(f"sqlite:///{shutil.copy(migrated, tmp_path / 'ledger.db')}")
    yield made
    made.dispose()


@contextmanager
def plans(engine: Engine) -> Iterator[list[str]]:
    """Yield the steps by which SQLite does every statement of the block."""
    asked: list[tuple[str, object]] = []

    def note(_connection: object, _cursor: object, statement: str, values: object, *_: object) -> None:
        asked.append((statement, values))

    event.listen(engine, "before_cursor_execute", note)
    steps: list[str] = []
    yield steps
    event.remove(engine, "before_cursor_execute", note)
    with engine.connect() as connection:
        for statement, values in asked:
            if statement.split()[0] in {"SELECT", "UPDATE", "DELETE"}:
                explained = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)  # type: ignore[arg-type]
                steps += [str(row.detail) for row in explained]


QUESTIONS: dict[str, tuple[Callable[[Engine], object], str]] = {
    "a job is claimed": (lambda engine: claimed(engine, 5), "ix_jobs_waiting (state=? AND priority=?)"),
    "a job was left": (lambda engine: claimed(engine, 5), "ix_jobs_under_way (state=? AND lease_until<?)"),
    "studies with news": (lambda engine: Jobs(engine).waiting_studies(), "ix_studies_news (dirty=?)"),
    "what may be freed": (lambda engine: Files(engine).release(NOW), "ix_studies_kept (first_at<?)"),
    "whether a second read has to wait": (lambda engine: Seconds(engine).busy(NOW), "ix_jobs_waiting (state=?)"),
    "jobs to tell of": (
        lambda engine: Outbox(engine).untold(NOW, 100),
        "ix_jobs_under_way (state=? AND lease_until<?)",
    ),
    "the newest studies": (lambda engine: Queries(engine).studies(50), "ix_instances_conflicting (study_uid=?)"),
    "studies that wait": (lambda engine: Overview(engine).studies(state=WAITING), "ix_studies_news (dirty=?)"),
    "those of a beginning": (lambda engine: Overview(engine).studies("1.", WAITING), "ix_studies_news (dirty=?)"),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_few_rows_are_looked_at_by_the_index_that_holds_them(embedded: Engine, name: str) -> None:
    """What is asked twice a second is not looked for among a million studies."""
    ask, index = QUESTIONS[name]
    schedule(embedded, 1)
    with plans(embedded) as steps:
        ask(embedded)
    assert any(index in step for step in steps), steps
    # A list in the order of an index ends with its page.
    through = [step for step in steps if re.match(rf"SCAN ({LARGE})\b", step)]
    assert [step for step in through if not step.endswith("USING INDEX ix_studies_newest")] == []
