"""Storage Commitment Push Model SCU (PS3.4 Annex J): ask a PACS to vouch for objects, hear its report.

The report may come on the asking association, on a later one of ours, or on a new one from the PACS to our
listener. All three end in the same `CommitmentHandler`; a transaction is known by its UID alone.
"""

import logging
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.presentation import build_context

from daemon.dimse.contexts import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE, UNCOMPRESSED
from daemon.dimse.ports import CommitmentHandler
from daemon.dimse.reports import read_report, request_dataset
from daemon.dimse.requestor import DEFAULT_LIMITS, Limits, NotOfferedError, association
from daemon.dimse.statuses import PROCESSING_FAILURE, SUCCESS
from daemon.domain.delivery import Destination
from daemon.domain.references import Reference
from daemon.domain.statuses import in_words
from daemon.errors import RefusedError, RetryableError

LOGGER = logging.getLogger(__name__)

_REQUEST = 1  # Action Type ID, PS3.4 J.3.2
# no such SOP class, SOP instance, action or operation, or not authorised (PS3.7 Annex C.5)
_NOT_SERVED = frozenset({0x0112, 0x0118, 0x0122, 0x0123, 0x0124, 0x0211})


class CommitmentOutcome(StrEnum):
    """What became of asking for commitment."""

    ASKED = "asked"
    NOT_OFFERED = "not offered"
    RETRY = "retry"


@dataclass(frozen=True, kw_only=True)
class CommitmentAnswer:
    """The answer to a request: what to do next, the N-ACTION status (None where none came), and a sentence."""

    outcome: CommitmentOutcome
    status: int | None
    detail: str


class _Ear:
    """Hears reports on an association of ours."""

    def __init__(self, handler: CommitmentHandler, transaction_uid: str | None) -> None:
        self._handler = handler
        self._awaited = transaction_uid
        self._heard = threading.Event()

    def wait(self, seconds: float) -> None:
        self._heard.wait(seconds)

    def __call__(self, event: evt.Event) -> tuple[int, Dataset | None]:
        try:
            report = read_report(event.event_information)
            self._handler.on_commitment(report.transaction_uid, report.committed, report.failed)
        except RefusedError as error:
            LOGGER.warning("%s", error)
            return PROCESSING_FAILURE, None
        except Exception:
            LOGGER.exception("a storage commitment report could not be recorded; the PACS is told to repeat it")
            return PROCESSING_FAILURE, None
        if report.transaction_uid == self._awaited:
            self._heard.set()
        return SUCCESS, None


@dataclass(frozen=True, kw_only=True)
class CommitmentRequest:
    """What a PACS is asked to vouch for; the transaction UID must be new for each request."""

    transaction_uid: str
    references: Sequence[Reference]


def request(
    destination: Destination,
    wanted: CommitmentRequest,
    calling_ae: str,
    handler: CommitmentHandler,
    limits: Limits = DEFAULT_LIMITS,
) -> CommitmentAnswer:
    """Ask `destination` to commit objects.

    The association stays open for `limits.report_seconds` after the answer, for a PACS that reports on it; any
    report on it, of this transaction or an earlier one, goes to `handler`. Nothing is raised: a destination
    that cannot be reached gives RETRY, one without the service NOT_OFFERED (fall back to reading back).
    """
    ear = _Ear(handler, wanted.transaction_uid)
    try:
        with _association(destination, calling_ae, limits, ear) as established:
            answer = _ask(established, wanted)
            if answer.outcome is CommitmentOutcome.ASKED:
                ear.wait(limits.report_seconds)
            return answer
    except NotOfferedError as error:
        return CommitmentAnswer(outcome=CommitmentOutcome.NOT_OFFERED, status=None, detail=str(error))
    except RetryableError as error:
        return CommitmentAnswer(outcome=CommitmentOutcome.RETRY, status=None, detail=str(error))


def collect(
    destination: Destination, calling_ae: str, handler: CommitmentHandler, limits: Limits = DEFAULT_LIMITS
) -> None:
    """Open an association for `limits.report_seconds` to a PACS that reports on our next association only.

    Raises:
        RetryableError: the destination cannot be reached.
        NotOfferedError: it has no Storage Commitment.
    """
    ear = _Ear(handler, None)
    with _association(destination, calling_ae, limits, ear):
        ear.wait(limits.report_seconds)


def _association(
    destination: Destination, calling_ae: str, limits: Limits, ear: _Ear
) -> AbstractContextManager[Association]:
    contexts = [build_context(STORAGE_COMMITMENT, list(UNCOMPRESSED[:2]))]
    return association(destination, calling_ae, contexts, limits, [(evt.EVT_N_EVENT_REPORT, ear)])


def _ask(established: Association, wanted: CommitmentRequest) -> CommitmentAnswer:
    status, _ = established.send_n_action(
        request_dataset(wanted.transaction_uid, wanted.references),
        _REQUEST,
        STORAGE_COMMITMENT,
        STORAGE_COMMITMENT_INSTANCE,
    )
    code = status.get("Status")
    if code is None:
        raise RetryableError("the association broke off, or no answer came in time")
    if code == SUCCESS:
        return CommitmentAnswer(outcome=CommitmentOutcome.ASKED, status=code, detail="asked for commitment")
    detail = f"N-ACTION answered with {in_words(code)}"
    outcome = CommitmentOutcome.NOT_OFFERED if code in _NOT_SERVED else CommitmentOutcome.RETRY
    return CommitmentAnswer(outcome=outcome, status=code, detail=detail)
