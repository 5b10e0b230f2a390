"""What passes between the ledger and the verbs."""

from dataclasses import dataclass
from datetime import datetime

from daemon.domain.delivery import DeliveryState
from daemon.domain.finding import Findings
from daemon.domain.job import JobInput, Lease
from daemon.domain.model_bundle import BundleRef
from daemon.domain.output import Output
from daemon.domain.references import Reference


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """A job in a worker's hands.

    `predecessors` are the reports that its own supersedes; `revision` counts the study's answers by its bundle from 1.
    """

    lease: Lease
    key: str
    input: JobInput
    bundle: BundleRef
    created_at: datetime
    attempts: int
    predecessors: tuple[Reference, ...]
    revision: int = 1


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a finished job leaves; `destinations` are names that each output goes to."""

    findings: Findings | None
    outputs: tuple[Output, ...]
    destinations: tuple[str, ...]
    seconds: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class DueDelivery:
    """One output that waits for its destination, or for its destination's word."""

    id: int
    destination: str
    attempts: int
    created_at: datetime
    sent_at: datetime | None
    transaction_uid: str
    digest: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str


@dataclass(frozen=True, kw_only=True)
class Change:
    """A delivery's next state; `due_at` when it is looked at again."""

    id: int
    state: DeliveryState
    due_at: datetime
    detail: str
    transaction_uid: str = ""
