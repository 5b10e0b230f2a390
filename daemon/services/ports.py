"""What the verbs need of the world; adapters fit these structurally."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from daemon.domain.assembly import Completeness, Refusal, StudyFacts
from daemon.domain.audit import AuditMessage
from daemon.domain.delivery import Circuit, DeliveryState, Destination, SendResult
from daemon.domain.evidence import Fetched, SeriesListing, Wanted
from daemon.domain.instance import Instance
from daemon.domain.job import JobInput, Lease
from daemon.domain.model_bundle import BundleRef, InstalledBundle
from daemon.domain.reception import Interrupted, Verdict
from daemon.domain.references import Reference
from daemon.domain.work import Change, Claimed, DueDelivery, Result
from daemon.imaging.reading import Reading
from daemon.imaging.volume import Volume


class Draft(Protocol):
    """A file on its way into the spool."""

    path: Path
    size: int
    head: bytes

    @property
    def digest(self) -> str:
        """Return the SHA-256 so far."""
        ...

    def write(self, chunk: bytes | memoryview) -> None:
        """Append bytes."""
        ...

    def settle(self) -> None:
        """Give it its name, so that it outlives the process, and begin to make it durable."""
        ...

    def sync(self) -> None:
        """Wait until it is durable."""
        ...

    def drop(self) -> None:
        """Forget it."""
        ...


class Spool(Protocol):
    """Durable files by digest."""

    def draft(self) -> Draft:
        """Begin a file."""
        ...

    def full(self) -> bool:
        """Return whether the disk's headroom is used up."""
        ...

    def path(self, digest: str) -> Path:
        """Return where a file is."""
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

    def sweep(self, kept: set[str], before: datetime) -> int:
        """Delete what no row names and nobody touched since."""
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

    def close_all(self, at: datetime) -> None:
        """End all that stand open from a former life."""
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

    def interrupted(self) -> list[Interrupted]:
        """Return what came on associations that stand open."""
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
        """Commit the decision on a study; False where instances came meanwhile."""
        ...

    def claim(self, worker: str, at: datetime, lease_for: timedelta) -> Claimed | None:
        """Take a job."""
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


class Reader(Protocol):
    """Models."""

    def bundles(self) -> tuple[InstalledBundle, ...]:
        """Return what can be read with."""
        ...

    def read(self, ref: BundleRef, volumes: Mapping[str, Volume], study_uid: str) -> Reading:
        """Read volumes by channel role."""
        ...


class Deliveries(Protocol):
    """Deliveries in the ledger."""

    def due(self, state: DeliveryState, at: datetime) -> list[DueDelivery]:
        """Return what is due."""
        ...

    def change(self, changes: Sequence[Change], at: datetime) -> None:
        """Commit what became of attempts."""
        ...

    def patient_key(self, study_instance_uid: str) -> str:
        """Return the keyed hash of a study's patient, empty where no instance of it is known."""
        ...

    def committed(self, transaction_uid: str, present: Iterable[str], absent: Mapping[str, str], at: datetime) -> int:
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
