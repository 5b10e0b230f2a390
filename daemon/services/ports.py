"""What the verbs need of the world; adapters fit these structurally."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from daemon.domain.assembly import Completeness, Refusal, StudyFacts
from daemon.domain.audit import AuditMessage
from daemon.domain.delivery import Circuit, DeliveryState, Destination, SendResult
from daemon.domain.evidence import Fetched, SeriesListing, Wanted
from daemon.domain.feedback import Candidate, Outcome, Outline, Returned
from daemon.domain.handling import Depth, Hint, Resource
from daemon.domain.instance import Instance
from daemon.domain.job import JobInput, Lease
from daemon.domain.model_bundle import BundleRef, InstalledBundle
from daemon.domain.output import OutputKind
from daemon.domain.reception import Interrupted, Verdict
from daemon.domain.references import Reference
from daemon.domain.second import SecondOutcome, SecondTask
from daemon.domain.work import Change, Claimed, DueDelivery, Result

if TYPE_CHECKING:  # what they are made of takes longer to load than the rest of a listener
    from daemon.imaging.reading import Reading
    from daemon.imaging.volume import Volume


class Draft(Protocol):
    """A file on its way into the spool."""

    size: int
    head: bytes

    @property
    def path(self) -> Path:
        """Return where what was written can be read."""

    @property
    def digest(self) -> str:
        """Return the SHA-256 so far."""

    def write(self, chunk: bytes | memoryview) -> None:
        """Append bytes."""

    def settle(self) -> None:
        """Give it its name, so that it outlives the process, and begin to make it durable."""

    def sync(self) -> None:
        """Wait until it is durable."""

    def drop(self) -> None:
        """Forget it."""


class Spool(Protocol):
    """Durable files by digest; `late`: what another machine received may come here later than its row."""

    late: bool

    def draft(self) -> Draft:
        """Begin a file."""
        ...

    def prepare(self) -> None:
        """Do ahead what beginning a file takes, where that can be."""
        ...

    def full(self) -> bool:
        """Return whether the disk's headroom is used up."""
        ...

    def path(self, digest: str) -> Path:
        """Return where a file is."""
        ...

    def bring(self, digests: Iterable[str]) -> None:
        """Have files here that are soon read."""
        ...

    def holds(self, digest: str) -> bool:
        """Return whether there is a file."""
        ...

    def sound(self, digest: str) -> bool:
        """Return whether a file is there and holds what was kept."""
        ...

    def put(self, content: bytes) -> tuple[str, int]:
        """Keep bytes; return digest and size."""
        ...

    def free(self, digests: Iterable[str]) -> None:
        """Delete files."""
        ...

    def sweep(self, kept: set[str], age: timedelta) -> int:
        """Delete what no row names and nobody touched for so long."""
        ...

    def sizes(self) -> dict[str, int]:
        """Return the sizes of all kept files by digest."""
        ...


class Intake(Protocol):
    """Where received instances are recorded."""

    def record(self, instance: Instance, association: str) -> Verdict:
        """Record one; durable on return."""
        ...

    def opened(self, association: str, calling_ae: str, at: datetime) -> None:
        """Note that an association began."""
        ...

    def closed(self, association: str, at: datetime) -> None:
        """Note that it ended."""
        ...

    def close_all(self, at: datetime, unseen: datetime | None = None) -> None:
        """End all that stand open from our former life; with `unseen`, those of listeners silent since then."""
        ...


class Inquiries(Protocol):
    """What came of asking the archive, in the ledger."""

    def begin(self, study: StudyFacts, at: datetime, until: datetime) -> bool:
        """Take up an inquiry; False where another process has."""
        ...

    def answered(self, study_uid: str, listings: Sequence[SeriesListing], at: datetime) -> None:
        """Commit the archive's answer."""
        ...

    def ended(self, study_uid: str, detail: str, until: datetime) -> None:
        """Commit what came of it; the archive is not asked again before `until`."""
        ...


class Reviews(Protocol):
    """Returned SEGs in the ledger, and the results they may be of."""

    def claim(self, at: datetime, lease: timedelta) -> Returned | None:
        """Take the next one."""
        ...

    def candidates(self, study: str) -> Sequence[Candidate]:
        """Return the study's answers."""
        ...

    def series(self, study: str, instances: Iterable[str]) -> frozenset[str]:
        """Return the series that hold these instances."""
        ...

    def outline(self, job: int) -> Outline | None:
        """Return a job's own SEG; None where it made none."""
        ...

    def settle(self, feedback: int, outcome: Outcome, at: datetime) -> None:
        """Commit what a look gave."""
        ...


class Archive(Protocol):
    """The network toward the archive."""

    def listed(self, destination: Destination, wanted: Wanted) -> tuple[SeriesListing, ...]:
        """Return what it lists.

        Raises:
            RetryableError: it cannot be reached, or a query fails.
            RefusedError: it answers no queries.
        """
        ...

    def fetch(self, destination: Destination, study: str, missing: Mapping[str, frozenset[str]]) -> Fetched:
        """Have instances sent to us; raises as `listed`."""
        ...


class Audit(Protocol):
    """Where audit messages are kept."""

    def record(self, messages: Sequence[AuditMessage]) -> None:
        """Keep them, in order; durable on return. Never raises: work does not wait for its record."""
        ...


class Visits(Intake, Protocol):
    """An intake that knows what associations brought."""

    def interrupted(self, unseen: datetime | None = None) -> list[Interrupted]:
        """Return what came on those that `close_all` would end."""
        ...


class Jobs(Protocol):
    """Studies and jobs in the ledger."""

    def waiting_studies(self) -> list[StudyFacts]:
        """Return studies with instances that no decision has seen."""
        ...

    def note_verdict(self, study: StudyFacts, completeness: Completeness) -> None:
        """Keep the evidence."""
        ...

    def settle(
        self, study: StudyFacts, jobs: Sequence[tuple[JobInput, BundleRef]], refusal: Refusal | None, at: datetime
    ) -> bool:
        """Commit the decision on a study; False where instances, or word of them, came meanwhile."""
        ...

    def claim(
        self, worker: str, at: datetime, lease_for: timedelta, resource: Resource | None = None
    ) -> Claimed | None:
        """Take a job, of whatever or of one resource."""
        ...

    def renew(self, lease: Lease, until: datetime) -> bool:
        """Extend a lease; False where it is lost."""
        ...

    def complete(self, lease: Lease, result: Result, at: datetime) -> bool:
        """Commit a result; False where the lease is lost."""
        ...

    def fail(self, lease: Lease, reason: str, detail: str, at: datetime) -> bool:
        """Commit a failure; False where the lease is lost."""
        ...

    def release(self, lease: Lease, detail: str, at: datetime, not_before: datetime) -> bool:
        """Give a job back; False where the lease is lost."""
        ...

    def bereaved(self, worker: str) -> list[tuple[Lease, int]]:
        """Count a worker's death against the jobs in its hands; return their leases and how many each has seen."""
        ...


class Outbox(Protocol):
    """What messages say of jobs, in the ledger."""

    def untold(self, at: datetime, most: int) -> list[Hint]:
        """Return jobs that are due and of which no message says so."""
        ...

    def unheard(self, at: datetime, before: datetime, resource: Resource, most: int) -> list[Hint]:
        """Return jobs that a message told of before then and that are due all the same."""
        ...

    def waiting(self, at: datetime) -> Mapping[Resource, int]:
        """Return how many jobs were told of and are due."""
        ...

    def told(self, hints: Sequence[Hint], at: datetime, *, again: bool) -> None:
        """Commit that messages went out."""
        ...


class Messages(Protocol):
    """The broker."""

    def publish(self, hints: Sequence[Hint]) -> None:
        """Hand messages over; the broker has them on return.

        Raises:
            RetryableError: it did not take them all.
        """
        ...

    def depths(self) -> Mapping[Resource, Depth]:
        """Return what it holds; raises as `publish`."""
        ...


class Files(Protocol):
    """What the ledger knows of spooled files."""

    def instances(self, digests: Sequence[str]) -> list[Instance]:
        """Return the instances of these digests."""
        ...

    def kept(self) -> dict[str, int]:
        """Return the files that must be in the spool: digest and size."""
        ...

    def release(self, before: datetime) -> list[str]:
        """Note that what nobody needs any more may be gone; return its digests."""
        ...

    def while_free(self, digests: Sequence[str], then: Callable[[Sequence[str]], None]) -> None:
        """Call `then` on those that nobody was promised anew meanwhile, and while nobody can be."""
        ...


class Seconds(Protocol):
    """Second reads in the ledger."""

    def claim(self, at: datetime, until: datetime) -> SecondTask | None:
        """Take one that is due, while no job is due or worked on."""
        ...

    def settle(self, task: SecondTask, outcome: SecondOutcome, at: datetime) -> bool:
        """Commit what a read gave; False where another worker has it by now."""
        ...

    def release(self, task: SecondTask, detail: str, due: datetime) -> None:
        """Give one back that gave way to something else."""
        ...

    def postpone(self, task: SecondTask, detail: str, due: datetime) -> None:
        """Give one back that failed for now; the attempt counts."""
        ...


class Reader(Protocol):
    """Models."""

    def bundles(self) -> tuple[InstalledBundle, ...]:
        """Return what can be read with."""
        ...

    def read(self, ref: BundleRef, volumes: "Mapping[str, Volume]", study_uid: str) -> "Reading":
        """Read volumes by channel role."""
        ...


class Deliveries(Protocol):
    """Deliveries in the ledger."""

    def due(
        self, state: DeliveryState, at: datetime, *, to: str = "", beside: Collection[str] = ()
    ) -> list[DueDelivery]:
        """Return what is due: to one destination, or to none of some."""
        ...

    def change(self, changes: Sequence[Change], at: datetime, *, only: DeliveryState | None = None) -> None:
        """Commit what became of attempts; what is no longer `only` stays as it is."""
        ...

    def replace(self, change: Change, instead: OutputKind, at: datetime) -> bool:
        """Commit that the job's outputs of kind `instead` go in one's place; False where it made none."""
        ...

    def patient_key(self, study_instance_uid: str) -> str:
        """Return the keyed hash of a study's patient, empty where no instance of it is known."""
        ...

    def committed(
        self, transaction_uid: str, present: Iterable[str], absent: Mapping[str, int | None], at: datetime
    ) -> int:
        """Commit a storage commitment's result."""
        ...


class Circuits(Protocol):
    """Destinations that were not reached, in the ledger."""

    def get(self, name: str) -> Circuit | None:
        """Return a destination's circuit; None where all is well."""
        ...

    def keep(self, circuit: Circuit) -> None:
        """Commit a failure."""
        ...

    def close(self, name: str) -> None:
        """Commit that it was reached."""
        ...


class Courier(Protocol):
    """The network toward destinations."""

    def send(self, destination: Destination, paths: Sequence[Path]) -> Iterator[SendResult]:
        """Send files on one association, a result each."""
        ...

    def ask_commitment(self, destination: Destination, transaction_uid: str, references: Sequence[Reference]) -> bool:
        """Ask to commit; False where the destination offers no such service.

        Raises:
            UnreachableError: it is not reached.
            RetryableError: it cannot be asked now.
        """
        ...

    def present(self, destination: Destination, references: Sequence[Reference]) -> frozenset[str]:
        """Return the SOP Instance UIDs that it lists.

        Raises:
            UnreachableError: it is not reached.
            RetryableError: it cannot be asked now.
        """
        ...
