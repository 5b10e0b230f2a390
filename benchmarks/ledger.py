"""How long each question of the flow takes with many studies in the ledger.

Run as `python -m benchmarks.ledger [--studies 1000000] [--rounds 50] [--database sqlite] [--plans]`.
The ledger is filled by the database itself (`benchmarks.ledger_rows`); then studies of 180 instances go through it,
verb after verb, each by the call that the daemon makes. PostgreSQL is a cluster of its own that flushes as it is told;
SQLite has no statistics, as the daemon lets it make none. `--plans` prints what the database means to do of every
statement that took long. A million studies take minutes and up to 18 GB of disk.
"""

import argparse
import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Engine, event

from benchmarks.ledger_rows import BACKLOG, fill, sizes
from benchmarks.percentiles import percentile
from daemon.domain.assembly import StudyFacts
from daemon.domain.delivery import DeliveryState, Destination
from daemon.domain.evidence import SeriesListing, Source
from daemon.domain.handling import Resource
from daemon.domain.instance import Instance
from daemon.domain.job import JobInput
from daemon.domain.model_bundle import BundleRef
from daemon.domain.output import Output, OutputKind
from daemon.domain.work import Change, DueDelivery, Result
from daemon.ledger.deliveries import Deliveries
from daemon.ledger.engine import connect
from daemon.ledger.files import Files
from daemon.ledger.intake import Intake
from daemon.ledger.jobs import Jobs
from daemon.ledger.listings import Listings
from daemon.ledger.migrate import upgrade
from daemon.ledger.outbox import Outbox
from daemon.ledger.queries import Queries
from daemon.ledger.seconds import Seconds
from daemon.ledger.times import Reach, Times
from tests.clusters import cluster
from tests.instances import series

SLICES = 180
T = TypeVar("T")
LEASE, AGE = timedelta(minutes=5), timedelta(days=7)
BUNDLE = BundleRef(name="brain-mri", version="1.0.0", digest="d" * 64)
PACS = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=104, outputs=tuple(OutputKind))
_SLOW = 0.02
# As a server has them that is not a test's.
_DURABLE = {"fsync": "on", "full_page_writes": "on", "shared_buffers": "1GB", "max_wal_size": "8GB"}


class Watch:
    """Times calls by name; with `plans`, keeps the statements that took long."""

    def __init__(self, engine: Engine, *, plans: bool) -> None:
        self.taken: dict[str, list[float]] = {}
        self.slow: dict[str, tuple[float, object]] = {}
        if plans:
            event.listen(engine, "before_cursor_execute", self._before)
            event.listen(engine, "after_cursor_execute", self._after)

    def _before(self, *_: object) -> None:
        self._began = time.perf_counter()

    def _after(self, *told: object) -> None:
        seconds = time.perf_counter() - self._began
        if seconds > _SLOW:
            self.slow[str(told[2])] = (seconds, told[3])

    def call(self, name: str, call: Callable[[], T]) -> T:
        """Return what a call returns."""
        began = time.perf_counter()
        found = call()
        self.taken.setdefault(name, []).append(1000 * (time.perf_counter() - began))
        return found


class Flow:
    """One study after the other through the ledger."""

    def __init__(self, engine: Engine, watch: Watch, now: datetime) -> None:
        self.engine, self.watch, self.now = engine, watch, now
        self.intake, self.jobs, self.files = Intake(engine), Jobs(engine), Files(engine)
        self.deliveries, self.listings, self.queries = Deliveries(engine), Listings(engine), Queries(engine)
        self.outbox, self.seconds = Outbox(engine), Seconds(engine)
        reach = Reach(lease=LEASE, job=timedelta(hours=1), delivery=timedelta(hours=1))
        self.times = Times(engine, reach)

    def instances(self, name: str) -> list[Instance]:
        """Return the instances of a new study."""
        return [
            replace(
                one,
                study_instance_uid=f"9.{name}",
                series_instance_uid=f"9.{name}.1",
                sop_instance_uid=f"9.{name}.1.{number}",
                digest=f"{name}-{number}".rjust(64, "0"),
                received_at=self.now,
            )
            for number, one in enumerate(series(SLICES))
        ]

    def study(self, number: int) -> None:
        """Take one through."""
        call, name = self.watch.call, f"7.{number}"
        arriving = self.instances(name)
        call("receive: an association opens", lambda: self.intake.opened(name, "MR1", self.now))
        for one in arriving:
            call("receive: one instance", partial(self.intake.record, one, name))
        call("receive: one that is here", lambda: self.intake.record(arriving[0], name))
        call("receive: an association ends", lambda: self.intake.closed(name, self.now))
        call("receive: a listener starts", self.intake.interrupted)
        self._told()
        (waiting,) = call("assemble: studies with news, one of 180", self.jobs.waiting_studies)
        listing = SeriesListing(
            series_instance_uid=f"9.{name}.1", modality="MR", source=Source.ARCHIVE,
            sop_instance_uids=frozenset(one.sop_instance_uid for one in arriving),
        )  # fmt: skip
        call("inquire: asked", lambda: self.listings.begin(waiting, self.now, self.now + LEASE))
        call("inquire: answered", lambda: self.listings.answered(f"9.{name}", [listing], self.now))
        call("inquire: ended", lambda: self.listings.ended(f"9.{name}", "", self.now))
        (known,) = self.jobs.waiting_studies()
        call("assemble: a decision", lambda: self._settle(known))
        self._work(name, [one.digest for one in arriving])
        self._send(name)
        self._tend(name, number)

    def _told(self) -> None:
        """Do what happens twice a second, or for each job, where messages tell workers of jobs."""
        call, most = self.watch.call, 100
        hints = call("dispatch: a hundred jobs to tell of", lambda: self.outbox.untold(self.now, most))
        call("dispatch: one was told of", lambda: self.outbox.told(hints[:1], self.now, again=False))
        call("dispatch: jobs that were told of and wait", lambda: self.outbox.waiting(self.now))

    def _settle(self, waiting: StudyFacts) -> None:
        digests = tuple(one.digest for one in waiting.instances)
        uid = waiting.study_instance_uid
        job = JobInput(study_instance_uid=uid, series={"MR": f"{uid}.1"}, instance_digests=digests)
        if not self.jobs.settle(waiting, [(job, BUNDLE)], None, self.now):
            raise SystemExit("the study changed while it was looked at")

    def _work(self, name: str, digests: Sequence[str]) -> None:
        call = self.watch.call
        call("an idle worker: studies with news, none", self.jobs.waiting_studies)
        idle = partial(self.jobs.claim, "w", self.now, LEASE, Resource.GPU)
        call(f"an idle worker: is there a job, none of {BACKLOG} is for it", idle)
        call("an idle worker: is there a second read, none", lambda: self.seconds.claim(self.now, self.now + LEASE))
        claimed = call(f"process: a job is claimed, {BACKLOG} wait", lambda: self.jobs.claim("w", self.now, LEASE))
        if claimed is None:
            raise SystemExit("no job is due")
        lease = claimed.lease
        call("process: a lease is renewed", lambda: self.jobs.renew(lease, self.now + LEASE))
        call("process: the instances of a job", lambda: self.files.instances(digests))
        outputs = tuple(
            Output(
                kind=kind, sop_class_uid="1.2", sop_instance_uid=f"6.{name}.{number}", series_instance_uid=f"6.{name}",
                digest=f"o-{name}-{number}", size=20_000,
            )
            for number, kind in enumerate((OutputKind.SEGMENTATION, OutputKind.REPORT))
        )  # fmt: skip
        result = Result(findings=None, outputs=outputs, destinations=(PACS,), seconds={})
        call("process: a job is completed", lambda: self.jobs.complete(lease, result, self.now))

    def _send(self, name: str) -> None:
        call, uid = self.watch.call, f"5.{name}"
        due = call("deliver: what is due", lambda: self._due(DeliveryState.PENDING))
        sent = [
            Change(id=one.id, state=DeliveryState.SENT, due_at=self.now, detail="", transaction_uid=uid) for one in due
        ]
        call("deliver: two were sent", lambda: self.deliveries.change(sent, self.now))
        call("confirm: what is due", lambda: self._due(DeliveryState.SENT))
        there = [one.sop_instance_uid for one in due]
        call("confirm: two are committed", lambda: self.deliveries.committed(uid, there, {}, self.now))

    def _due(self, state: DeliveryState) -> list[DueDelivery]:
        return self.deliveries.due(state, self.now)

    def _tend(self, name: str, minute: int) -> None:
        call, aged = self.watch.call, self.now - AGE + timedelta(minutes=minute)
        call("retire: what may be freed, of a minute", lambda: self.files.release(aged))
        call("retire: times of a wrong clock", lambda: self.times.correct(self.now))
        call("asked: the newest 50 studies", lambda: self.queries.studies(50))
        call("asked: one study", lambda: self.queries.study(f"9.{name}"))
        call("asked: the newest 50 jobs", lambda: self.queries.jobs(limit=50))
        call("asked: `status`, which counts all", self.queries.counts)


@contextmanager
def ledger(database: str) -> Iterator[Engine]:
    """Yield an empty ledger."""
    with tempfile.TemporaryDirectory(prefix="overread-ledger-") as folder:
        if database == "sqlite":
            yield from _made(f"sqlite:///{Path(folder) / 'ledger.db'}")
            return
        with cluster(settings=_DURABLE) as server:
            server.execute("CREATE DATABASE ledger")
            yield from _made(server.url("ledger"))


def _made(url: str) -> Iterator[Engine]:
    engine = connect(url)
    upgrade(engine)
    yield engine
    engine.dispose()


def measure(engine: Engine, options: argparse.Namespace) -> None:
    """Fill, measure, print."""
    now, began = datetime.now(tz=UTC).replace(microsecond=0), time.perf_counter()
    fill(engine, options.studies, now)
    database = engine.dialect.name
    print(f"\n{database}: {options.studies} studies in {time.perf_counter() - began:.0f} s\n")
    print("| database | table | rows | bytes a row, with indexes |\n|---|---|---|---|")
    for table, (rows, size) in sizes(engine).items():
        print(f"| {database} | {table} | {rows} | {size:.0f} |")
    # What was loaded to run this is no part of the ledger: looking through it for garbage takes up to 0.3 s.
    gc.collect()
    gc.freeze()
    watch = Watch(engine, plans=options.plans)
    flow = Flow(engine, watch, now)
    for number in range(options.rounds):
        flow.study(number)
    print("\n| database | question | p50 ms | p95 ms |\n|---|---|---|---|")
    for name, unordered in watch.taken.items():
        taken = sorted(unordered)
        at95 = percentile(taken, 0.95)
        print(f"| {database} | {name} | {statistics.median(taken):.1f} | {at95:.1f} |")
    for statement, (seconds, values) in watch.slow.items():
        print(f"\n{1000 * seconds:.0f} ms: {statement}\n{values}"[:3000])
        explain = "EXPLAIN QUERY PLAN " if database == "sqlite" else "EXPLAIN "
        with engine.connect() as connection:
            for row in connection.exec_driver_sql(explain + statement, values).all():  # type: ignore[arg-type]
                print("   ", *row)


def main() -> None:
    """Print tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), action="append")
    parser.add_argument("--plans", action="store_true")
    options = parser.parse_args()
    for database in options.database or ("sqlite", "postgresql"):
        with ledger(database) as engine:
            measure(engine, options)


if __name__ == "__main__":
    main()
