"""Deliveries: one output to one destination, tried until it is confirmed or given up with a reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from daemon.domain.trust import ClientTls


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    PENDING = "PENDING"
    SENT = "SENT"
    CONFIRMED = "CONFIRMED"
    DEAD = "DEAD"


TRANSITIONS: Mapping[tuple[DeliveryState, DeliveryState], str] = {
    (DeliveryState.PENDING, DeliveryState.PENDING): "the attempt failed and is repeated later",
    (DeliveryState.PENDING, DeliveryState.SENT): "the destination answered success to C-STORE",
    (DeliveryState.PENDING, DeliveryState.DEAD): "the destination refuses it for good, or days went by",
    (DeliveryState.SENT, DeliveryState.CONFIRMED): "the destination committed it, or it was read back",
    (DeliveryState.SENT, DeliveryState.SENT): "confirmation is still awaited",
    (DeliveryState.SENT, DeliveryState.PENDING): "the destination does not have it after all",
    (DeliveryState.SENT, DeliveryState.DEAD): "the destination does not have it after all, and days went by",
    (DeliveryState.DEAD, DeliveryState.PENDING): "an administrator asked to retry",
}


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How long to go on: exponential backoff from `first` to `longest`, dead after `give_up`."""

    first: timedelta = timedelta(seconds=5)
    longest: timedelta = timedelta(minutes=30)
    give_up: timedelta = timedelta(days=7)

    def wait(self, attempt: int, jitter: float) -> timedelta:
        """Return the wait after failed `attempt` (from 1), spread by `jitter` in 0..1.

        Full jitter over the upper half: the wait lies between half and the whole of the backoff.
        """
        whole = min(self.first * 2 ** min(attempt - 1, 30), self.longest)
        return whole * (0.5 + 0.5 * jitter)


@dataclass(frozen=True, kw_only=True)
class Destination:
    """A DICOM node that results go to, by TLS where `tls` is given.

    `commitment` asks for Storage Commitment, else they are read back.
    """

    name: str
    ae_title: str
    host: str
    port: int
    commitment: bool = True
    tls: ClientTls | None = None


class SendOutcome(StrEnum):
    """What a destination made of one object."""

    STORED = "stored"
    REFUSED = "refused"
    RETRY = "retry"


@dataclass(frozen=True, kw_only=True)
class SendResult:
    """The answer to one C-STORE: its status (None where none came) and a sentence without patient data."""

    sop_instance_uid: str
    outcome: SendOutcome
    status: int | None
    detail: str
