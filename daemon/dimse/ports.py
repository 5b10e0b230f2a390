"""What the listener calls; services and adapters fit these structurally."""

from collections.abc import Mapping
from typing import Protocol

from daemon.domain.admission import Caller
from daemon.domain.evidence import Notice
from daemon.domain.reception import Announced, Verdict


class Incoming(Protocol):
    """One object on its way in. Exactly one of `finish` and `abort` ends it."""

    def write(self, chunk: bytes | memoryview) -> None:
        """Take the next bytes of the Part 10 file; a view is valid only until the return.

        Raises:
            RetryableError, OSError: they cannot be kept now; `abort` follows and the sender is told to retry.
            RefusedError: they are no use; `abort` follows and the sender is told so.
        """
        ...

    def finish(self) -> Verdict:
        """Make the object durable and say what became of it; nothing else is acknowledged to the sender."""
        ...

    def abort(self) -> None:
        """Forget the object: it did not arrive whole."""
        ...


class Reception(Protocol):
    """Where arriving objects go. Called from one thread per association, many at once."""

    def open(self, announced: Announced) -> Incoming:
        """Begin an object; raises as `Incoming.write` does."""
        ...

    def rested(self) -> None:
        """Hear that an answer went out: what the next object will need may be done now; never raises."""
        ...

    def association_opened(self, association: str, calling_ae: str) -> None:
        """Hear that `association` may bring objects from now on."""
        ...

    def association_closed(self, association: str) -> None:
        """Hear that `association` brings no more."""
        ...


class Witness(Protocol):
    """Who hears which callers got in and which were turned away. Called as `Reception` is; never raises."""

    def association_accepted(self, association: str, caller: Caller) -> None:
        """Hear of it before the reception hears that `association` opened."""
        ...

    def association_rejected(self, caller: Caller, reason: str) -> None:
        """Hear that a caller was turned away because of who it is or whom it called."""
        ...


class CommitmentHandler(Protocol):
    """Where Storage Commitment reports go, by whichever association they come."""

    def on_commitment(self, transaction_uid: str, committed: frozenset[str], failed: Mapping[str, int | None]) -> None:
        """Take the SOP Instance UIDs that a PACS vouches for, and those that it does not, with Failure Reasons.

        A report may come twice, or for a transaction that is unknown: neither may raise.
        """
        ...


class NoticeHandler(Protocol):
    """Where Instance Availability Notifications go."""

    def on_notice(self, notice: Notice) -> None:
        """Take a notification, of whatever study; it may come twice."""
        ...
