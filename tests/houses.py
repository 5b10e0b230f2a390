"""A ledger, a spool and a destination in one process, with a clock that a test sets."""

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine

from daemon.domain.delivery import DeliveryState, Destination, RetryPolicy, SendOutcome, SendResult
from daemon.domain.job import JobInput
from daemon.domain.model_bundle import BundleRef
from daemon.domain.output import Output, OutputKind
from daemon.domain.reception import Announced, Verdict
from daemon.domain.references import Reference
from daemon.domain.work import Result
from daemon.errors import RetryableError, UnreachableError
from daemon.ledger.circuits import Circuits
from daemon.ledger.deliveries import Deliveries
from daemon.ledger.files import Files
from daemon.ledger.intake import Intake
from daemon.ledger.jobs import Jobs
from daemon.services.deliver import Confirm, Deliver, DeliveryRules, Post
from daemon.services.ports import Courier
from daemon.services.receive import Reception
from daemon.spool.store import Spool
from tests.dicom_files import CT
from tests.instances import NOW, series

PACS = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=104, commitment=True)


def aged(path: Path) -> None:
    """Let nobody have touched a file for two hours."""
    os.utime(path, (path.stat().st_mtime - 7200,) * 2)


class StillClock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        """Return the time that was set."""
        return self.at


class FakeCourier:
    """A destination that stores everything and lists `present_uids`, unless told otherwise.

    `down`: it is not reached. `offers`: it commits and answers queries. `poison`: files that break its association.
    """

    def __init__(self) -> None:
        self.sent: list[Path] = []
        self.calls: list[int] = []
        self.down = False
        self.poison: set[str] = set()
        self.asked: list[str] = []
        self.present_uids: frozenset[str] = frozenset()
        self.offers = True

    def send(self, destination: Destination, paths: Sequence[Path]) -> Iterator[SendResult]:
        """Store every file, as far as the association holds."""
        self.calls.append(len(paths))
        broken = self.down
        for path in paths:
            poison = path.name in self.poison
            if broken or poison:
                detail = f"{destination.name}: no association"
                outcome = SendOutcome.RETRY
                yield SendResult(
                    sop_instance_uid="", outcome=outcome, status=None, detail=detail, tried=poison and not broken
                )
                broken = True
                continue
            self.sent.append(path)
            yield SendResult(sop_instance_uid="", outcome=SendOutcome.STORED, status=0, detail="stored")

    def ask_commitment(self, destination: Destination, transaction_uid: str, references: Sequence[Reference]) -> bool:
        """Note the transaction."""
        del destination, references
        self.asked.append(transaction_uid)
        return self.offers

    def present(self, destination: Destination, references: Sequence[Reference]) -> frozenset[str]:
        """List what the test set, or answer no queries."""
        if self.down:
            raise UnreachableError(f"{destination.name}: nothing listens there")
        if not self.offers:
            raise RetryableError(f"{destination.name}: {len(references)} objects not found, it answers no queries")
        return self.present_uids


class House:
    """Ledger and spool in a folder, with one association open."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        self.engine, self.clock, self.courier = engine, StillClock(), FakeCourier()
        self.spool = Spool(folder / "spool", headroom=0)
        self.intake, self.jobs, self.files = Intake(engine), Jobs(engine), Files(engine)
        self.deliveries, self.circuits = Deliveries(engine), Circuits(engine)
        self.places = {PACS.name: PACS}
        self.reception = Reception(self.spool, self.intake, self.clock, b"salt")
        self.intake.opened("a1", "MR1", NOW)

    def receive(self, path: Path, uid: str) -> Verdict:
        """Push a file as the listener would."""
        announced = Announced(
            sop_class_uid=CT,
            sop_instance_uid=uid,
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            calling_ae="MR1",
            called_ae="OVERREAD",
            association="a1",
        )
        incoming = self.reception.open(announced)
        incoming.write(path.read_bytes())
        return incoming.finish()

    def kept(self) -> int:
        """Return how many files the spool holds, drafts too."""
        return len(self.spool.sizes()) + len(list((self.spool.root / "incoming").iterdir()))

    def post(self, courier: Courier | None = None, paused: Callable[[], bool] = bool) -> tuple[Deliver, Confirm]:
        """Return deliver and confirm toward `places`, by a courier of one's own or the fake."""
        post = Post(
            deliveries=self.deliveries,
            circuits=self.circuits,
            spool=self.spool,
            courier=courier or self.courier,
            destinations=lambda: self.places,
            paused=paused,
        )
        rules = DeliveryRules(retry=RetryPolicy(give_up=timedelta(days=1)), report_wait=timedelta(seconds=60))
        return Deliver(post, self.clock, rules), Confirm(post, self.clock, rules)

    def result(self, outputs: tuple[Output, ...], destinations: tuple[str, ...] = ("pacs",)) -> Result:
        """Return what a job leaves."""
        places = tuple(self.places.get(name) or Destination(name=name) for name in destinations)
        return Result(findings=None, outputs=outputs, destinations=places, seconds={})

    def completed(
        self, *contents: bytes, destinations: tuple[str, ...] = ("pacs",), kinds: Sequence[OutputKind] = ()
    ) -> list[str]:
        """Complete a job with these outputs, reports unless `kinds` says otherwise; return their digests."""
        for instance in series(3):
            self.intake.record(instance, "a1")
        self.intake.closed("a1", NOW)
        study = self.jobs.waiting_studies()[0]
        job = JobInput(study_instance_uid="1.2", series={"MR": "1.2.5"}, instance_digests=("x",))
        self.jobs.settle(study, [(job, BundleRef(name="b", version="1", digest="d" * 64))], None, NOW)
        claimed = self.jobs.claim("w", NOW, timedelta(minutes=1))
        assert claimed is not None
        outputs = tuple(
            Output(
                kind=kinds[number] if kinds else OutputKind.REPORT,
                sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
                sop_instance_uid=f"9.{number}",
                series_instance_uid="9",
                digest=digest,
                size=size,
            )
            for number, (digest, size) in enumerate(map(self.spool.put, contents))
        )
        assert self.jobs.complete(claimed.lease, self.result(outputs, destinations), NOW)
        return [output.digest for output in outputs]

    def states(self) -> list[str]:
        """Return the states of deliveries, by id."""
        far = NOW + timedelta(days=999)
        found = [(d.id, state.value) for state in DeliveryState for d in self.deliveries.due(state, far)]
        return [state for _, state in sorted(found)]
