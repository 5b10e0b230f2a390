"""C-GET SCU (PS3.4 C.4.3): what is asked for comes on the association that asks, into the reception of the listener."""

import logging
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.presentation import PresentationContext, build_context

from daemon.dimse.contexts import MOST_CONTEXTS, RECEIVED, STUDY_ROOT_GET, UNCOMPRESSED, transfer_syntaxes
from daemon.dimse.ports import Reception, Witness
from daemon.dimse.requestor import Limits, NotOfferedError, association
from daemon.dimse.statuses import COMMENT_LENGTH, SOP_CLASS_NOT_SUPPORTED, SUCCESS
from daemon.dimse.storing import store
from daemon.domain.admission import Caller
from daemon.domain.delivery import Destination
from daemon.domain.reception import Announced
from daemon.errors import RetryableError

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """One retrieval: its final status, empty where none came, and how many objects we answered with a failure."""

    status: Dataset
    refused: int = 0


@dataclass(frozen=True, kw_only=True)
class Getter:
    """Fetches into `reception`; `witness` hears who gave. While `paused` says so nothing is fetched.

    An association that we ask for stands in no ledger: were this process killed, nobody would close it there. While one
    is under way the inquiry holds the study.
    """

    calling_ae: str
    reception: Reception
    witness: Witness | None = None
    paused: Callable[[], bool] = bool

    def get(self, destination: Destination, wanted: Sequence[Dataset], limits: Limits) -> Iterator[Ended]:
        """Yield how each retrieval ended; after an association that broke no more.

        An object is in memory as a whole while it comes.

        Raises:
            RetryableError: it cannot be reached, or reception is paused.
            NotOfferedError: it does not offer retrieval by C-GET.
        """
        if self.paused():
            raise RetryableError("reception is paused; `overread resume` ends that")
        name = uuid.uuid4().hex
        caller = Caller(calling_ae=destination.ae_title, called_ae=self.calling_ae, address=destination.host)
        refused: list[int] = []

        def take(event: evt.Event) -> Dataset:
            answer = self._take(event, name, destination.ae_title)
            refused.extend([answer.Status] if answer.Status != SUCCESS else [])
            return answer

        handlers = [(evt.EVT_C_STORE, take)]
        with association(destination, self.calling_ae, _contexts(), limits, handlers) as established:
            if STUDY_ROOT_GET not in {c.abstract_syntax for c in established.accepted_contexts}:
                raise NotOfferedError(f"destination {destination.name}: it offers no retrieval by C-GET")
            if self.witness is not None:
                self.witness.association_accepted(name, caller)
            try:
                for keys in wanted:
                    refused.clear()
                    last = Dataset()
                    for status, _ in established.send_c_get(keys, STUDY_ROOT_GET):
                        last = status
                    yield Ended(status=last, refused=len(refused))
                    if not established.is_established:
                        return
            finally:
                self.reception.association_closed(name)

    def _take(self, event: evt.Event, association_name: str, calling_ae: str) -> Dataset:
        """Take one object as the listener does: success is answered once it is durable and in the ledger."""
        answer, asked = Dataset(), event.request
        answer.Status = SOP_CLASS_NOT_SUPPORTED
        if asked.AffectedSOPClassUID != event.context.abstract_syntax:
            return answer
        sink = store(
            self.reception,
            Announced(
                sop_class_uid=str(asked.AffectedSOPClassUID),
                sop_instance_uid=str(asked.AffectedSOPInstanceUID),
                transfer_syntax_uid=str(event.context.transfer_syntax),
                calling_ae=calling_ae,
                called_ae=self.calling_ae,
                association=association_name,
            ),
        )
        with asked.DataSet.getbuffer() as data:
            sink.write(data)
        status = sink.finish()
        answer.Status = status.code
        if status.comment:
            answer.ErrorComment = status.comment[:COMMENT_LENGTH]
        return answer


def _contexts() -> list[PresentationContext]:
    """Return what to propose: C-GET, and in the role of SCP each class that is received.

    The uncompressed syntaxes stand in one context, each compressed one in its own, so that an archive can send what it
    keeps as it keeps it.
    """
    compressed = transfer_syntaxes()[len(UNCOMPRESSED) :]
    given = [build_context(uid, list(UNCOMPRESSED)) for uid in RECEIVED]
    given += [build_context(uid, [syntax]) for syntax in compressed for uid in RECEIVED]
    for context in given:
        context.scu_role, context.scp_role = False, True
    return [build_context(STUDY_ROOT_GET, list(UNCOMPRESSED[:2])), *given][:MOST_CONTEXTS]
