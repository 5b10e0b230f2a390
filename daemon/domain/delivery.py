"""Deliveries: one output to one destination, tried until it is confirmed or given up with a reason."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from daemon.domain.output import ALWAYS, OutputKind, Replacement
from daemon.domain.trust import ClientTls


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    PENDING = "PENDING"
    SENT = "SENT"
    CONFIRMED = "CONFIRMED"
    UNCONFIRMED = "UNCONFIRMED"
    REPLACED = "REPLACED"
    DEAD = "DEAD"


TRANSITIONS: Mapping[tuple[DeliveryState, DeliveryState], str] = {
    (DeliveryState.PENDING, DeliveryState.PENDING): "the attempt failed and is repeated later",
    (DeliveryState.PENDING, DeliveryState.SENT): "the destination answered success to C-STORE",
    (DeliveryState.PENDING, DeliveryState.DEAD): "the destination refuses it for good, or days went by",
    (DeliveryState.PENDING, DeliveryState.REPLACED): "the destination refuses it, and what is configured goes instead",
    (DeliveryState.SENT, DeliveryState.CONFIRMED): "the destination committed it, or it was read back",
    (DeliveryState.SENT, DeliveryState.SENT): "confirmation is still awaited",
    (DeliveryState.SENT, DeliveryState.PENDING): "the destination does not have it after all",
    (
        DeliveryState.SENT,
        DeliveryState.DEAD,
    ): "the destination does not have it after all, and days went by, or has another object under its UID",
    (
        DeliveryState.SENT,
        DeliveryState.UNCONFIRMED,
    ): "days went by without commitment or an answer to a query, or the destination changed it and does not list it",
    (
        DeliveryState.UNCONFIRMED,
        DeliveryState.CONFIRMED,
    ): "its storage commitment report came after all, or an administrator accepted it",
    (DeliveryState.UNCONFIRMED, DeliveryState.PENDING): "an administrator replayed it, or a late report denies it",
    (DeliveryState.UNCONFIRMED, DeliveryState.UNCONFIRMED): "a late report leaves open whether it is there",
    (DeliveryState.REPLACED, DeliveryState.PENDING): "an administrator replayed it",
    (DeliveryState.DEAD, DeliveryState.PENDING): "an administrator replayed it",
}

# Where a delivery has ended without the destination's word; an administrator may replay it.
REPLAYABLE = (DeliveryState.DEAD, DeliveryState.UNCONFIRMED, DeliveryState.REPLACED)
# What is replayed where nobody says otherwise: in a REPLACED delivery's place another object went.
MISSING = (DeliveryState.DEAD, DeliveryState.UNCONFIRMED)


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

    def spent(self, since: datetime, now: datetime) -> bool:
        """Return whether what is tried `since` then is to be given up."""
        return now - since >= self.give_up


OPEN_AFTER = 3


@dataclass(frozen=True, kw_only=True)
class Circuit:
    """A destination that was not reached: how often in a row, since when, why, and when it is tried next.

    From `OPEN_AFTER` failures on it is open: one object at a time probes it, until one is answered.
    """

    destination: str
    failures: int
    since: datetime
    next_at: datetime
    reason: str

    @property
    def open(self) -> bool:
        """Return whether only a probe is sent."""
        return self.failures >= OPEN_AFTER


def reached(circuit: Circuit | None) -> str:
    """Return in a word how a destination with this circuit stands."""
    if circuit is None:
        return "reached"
    return "open" if circuit.open else "failing"


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which ended deliveries to replay: all that match. `since` is when they ended, at the earliest."""

    ids: tuple[int, ...] = ()
    destination: str = ""
    states: tuple[DeliveryState, ...] = MISSING
    since: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Undelivered:
    """Outputs that never were on their way to `destination`: of `kinds`, of jobs ended `since`; or those with `ids`."""

    destination: str
    kinds: tuple[OutputKind, ...] = ALWAYS
    ids: tuple[int, ...] = ()
    since: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where results go: a DICOM node (AE title, host, port), or a DICOMweb service (`url`).

    `commitment` asks a node for Storage Commitment, else results are read back; `tls` calls it by TLS.
    `token_file` holds a bearer token, `password_file` one line `user:password`, `ca_file` the certificates to trust.
    `outputs` are the kinds of result that go there, `fallback` what goes instead of one that it refuses.
    """

    name: str
    ae_title: str = ""
    host: str = ""
    port: int = 0
    commitment: bool = True
    tls: ClientTls | None = None
    url: str = ""
    token_file: str = ""
    password_file: str = ""
    ca_file: str = ""
    outputs: tuple[OutputKind, ...] = ALWAYS
    fallback: tuple[Replacement, ...] = ()

    def instead(self, kind: OutputKind) -> OutputKind | None:
        """Return what goes there where `kind` is refused, None where nothing does."""
        return next((entry.instead for entry in self.fallback if entry.refused is kind), None)


def wanted(destinations: Iterable[Destination]) -> frozenset[OutputKind]:
    """Return the kinds of result to make: what always is, what somebody gets, and what replaces that."""
    every = tuple(destinations)
    asked = {kind for destination in every for kind in destination.outputs}
    instead = {d.instead(kind) for d in every for kind in d.outputs}
    return frozenset({*ALWAYS, *asked, *(kind for kind in instead if kind is not None)})


@dataclass(frozen=True, kw_only=True)
class Echo:
    """The answer to a C-ECHO, or to a query by HTTP: whether all is well, a sentence for people, how long it took."""

    ok: bool
    detail: str
    seconds: float


class SendOutcome(StrEnum):
    """What a destination made of one object."""

    STORED = "stored"
    REFUSED = "refused"
    RETRY = "retry"


@dataclass(frozen=True, kw_only=True)
class SendResult:
    """The answer to one C-STORE: its status (None where none came) and a sentence without patient data.

    `tried` is False where its turn never came, because the association was not had or broke before.
    """

    sop_instance_uid: str
    outcome: SendOutcome
    status: int | None
    detail: str
    tried: bool = True

    @property
    def answered(self) -> bool:
        """Return whether the destination was there to say so."""
        return self.status is not None or self.outcome is SendOutcome.REFUSED
