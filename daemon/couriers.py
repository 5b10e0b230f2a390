"""The network toward destinations, by the kind of each; and into the ledger what they report by themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.clock import Clock
from daemon.domain.delivery import Destination, Echo, SendResult
from daemon.domain.evidence import Notice
from daemon.domain.references import Reference
from daemon.ledger.deliveries import Deliveries
from daemon.ledger.listings import Listings

if TYPE_CHECKING:
    from daemon.dicomweb.courier import WebCourier
    from daemon.dimse.courier import Courier


@dataclass(frozen=True, kw_only=True)
class Couriers:
    """The network toward destinations: DICOMweb to those with a URL, DIMSE to the others."""

    dimse: Courier
    dicomweb: WebCourier

    def to(self, destination: Destination) -> Courier | WebCourier:
        """Return the one that reaches `destination`."""
        return self.dicomweb if destination.url else self.dimse

    def echo(self, destination: Destination) -> Echo:
        """Verify a destination."""
        return self.to(destination).echo(destination)

    def send(self, destination: Destination, paths: Sequence[Path]) -> Iterator[SendResult]:
        """Send files, a result each."""
        return self.to(destination).send(destination, paths)

    def ask_commitment(self, destination: Destination, transaction_uid: str, references: Sequence[Reference]) -> bool:
        """Ask to commit; False where the destination offers no such service."""
        return self.to(destination).ask_commitment(destination, transaction_uid, references)

    def present(self, destination: Destination, references: Sequence[Reference]) -> frozenset[str]:
        """Return the SOP Instance UIDs that the destination lists."""
        return self.to(destination).present(destination, references)


@dataclass(frozen=True)
class CommitmentReports:
    """Storage commitment reports into the ledger, by whichever association they come."""

    deliveries: Deliveries
    clock: Clock

    def on_commitment(self, transaction_uid: str, committed: frozenset[str], failed: Mapping[str, int | None]) -> None:
        """Record a report."""
        self.deliveries.committed(transaction_uid, committed, failed, self.clock.now())


@dataclass(frozen=True)
class AvailabilityNotices:
    """Instance Availability Notifications into the ledger."""

    listings: Listings
    clock: Clock

    def on_notice(self, notice: Notice) -> None:
        """Record a notification."""
        self.listings.notified(notice, self.clock.now())
