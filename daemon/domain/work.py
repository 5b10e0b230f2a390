"""What passes between the ledger and the verbs."""

from dataclasses import dataclass
from datetime import datetime

from daemon.domain.delivery import DeliveryState, Destination
from daemon.domain.finding import Findings
from daemon.domain.job import JobInput, Lease
from daemon.domain.model_bundle import BundleRef
from daemon.domain.output import Output, OutputKind
from daemon.domain.reasons import Reason
from daemon.domain.references import Reference


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """A job in a worker's hands.

    `predecessors` are the reports that its own supersedes; `revision` counts the study's answers by its bundle from 1.
    With a `refusal` nothing is read: the job reports why. Its bundle is the one that failed, nameless where none was
    chosen.
    """

    lease: Lease
    key: str
    input: JobInput
    bundle: BundleRef
    created_at: datetime
    attempts: int
    predecessors: tuple[Reference, ...]
    revision: int = 1
    refusal: Reason | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a finished job leaves; each of the `destinations` gets the outputs of the kinds that go there.

    The bundles in `shadows` read the study too, later, for comparison alone.
    """

    findings: Findings | None
    outputs: tuple[Output, ...]
    destinations: tuple[Destination, ...]
    seconds: dict[str, float]
    shadows: tuple[BundleRef, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DueDelivery:
    """One output that waits for its destination, or for its destination's word.

    `warning` is the status with which it was stored; 0 where there was none.
    """

    id: int
    destination: str
    attempts: int
    created_at: datetime
    sent_at: datetime | None
    transaction_uid: str
    kind: OutputKind
    digest: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    warning: int = 0


@dataclass(frozen=True, kw_only=True)
class Change:
    """A delivery's next state; `due_at` when it is looked at again; `warning` where it was stored with one."""

    id: int
    state: DeliveryState
    due_at: datetime
    detail: str
    transaction_uid: str = ""
    warning: int = 0
