"""The network toward destinations, under one calling AE title: what the services ask of DIMSE."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from daemon.dimse import commitment, probe, query, requestor, sender
from daemon.dimse.commitment import CommitmentOutcome, CommitmentRequest
from daemon.dimse.ports import CommitmentHandler
from daemon.dimse.probe import Service
from daemon.dimse.requestor import DEFAULT_LIMITS, Limits, NotOfferedError
from daemon.domain.delivery import Destination, Echo, SendResult
from daemon.domain.references import Reference
from daemon.errors import RetryableError, UnreachableError


class Courier:
    """Sends, asks and reads back; `handler` gets commitment reports that come on our own associations."""

    def __init__(self, calling_ae: str, handler: CommitmentHandler, limits: Limits = DEFAULT_LIMITS) -> None:
        self._calling_ae = calling_ae
        self._handler = handler
        self._limits = limits

    def echo(self, destination: Destination) -> Echo:
        """Verify a destination; see `daemon.dimse.requestor.echo`."""
        return requestor.echo(destination, self._calling_ae, self._limits)

    def probe(self, destination: Destination) -> tuple[Service, ...]:
        """Ask a destination what it takes; see `daemon.dimse.probe.probe`."""
        return probe.probe(destination, self._calling_ae, limits=self._limits)

    def send(self, destination: Destination, paths: Sequence[Path]) -> Iterator[SendResult]:
        """Send files on one association, a result each; see `daemon.dimse.sender.send`."""
        return sender.send(destination, paths, self._calling_ae, self._limits)

    def ask_commitment(self, destination: Destination, transaction_uid: str, references: Sequence[Reference]) -> bool:
        """Ask to commit; False where the destination offers no such service.

        Raises:
            UnreachableError: it is not reached, or does not answer.
            RetryableError: it cannot be asked now.
        """
        wanted = CommitmentRequest(transaction_uid=transaction_uid, references=references)
        answer = commitment.request(destination, wanted, self._calling_ae, self._handler, self._limits)
        if answer.outcome is CommitmentOutcome.RETRY and answer.status is None:
            raise UnreachableError(answer.detail)
        if answer.outcome is CommitmentOutcome.RETRY:
            raise RetryableError(answer.detail)
        return answer.outcome is CommitmentOutcome.ASKED

    def present(self, destination: Destination, references: Sequence[Reference]) -> frozenset[str]:
        """Return the SOP Instance UIDs that the destination lists.

        Raises:
            UnreachableError: it is not reached.
            RetryableError: it cannot be asked now, or answers no queries, so that nothing is known.
        """
        try:
            return query.present(destination, references, self._calling_ae, self._limits)
        except NotOfferedError as error:
            raise RetryableError(f"{error}; without commitment or queries a delivery cannot be confirmed") from error
