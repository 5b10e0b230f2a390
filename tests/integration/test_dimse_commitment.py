"""Storage Commitment: asked of a real PACS, and heard by each of the three ways a report may come."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from daemon.dimse.commitment import CommitmentOutcome, CommitmentRequest, collect, request
from daemon.dimse.listener import Listener, ListenerSettings
from daemon.dimse.requestor import Limits
from daemon.dimse.sender import send
from daemon.domain.delivery import Destination, SendOutcome
from daemon.domain.references import Reference
from tests.dicom_files import CT, SERIES, STUDY, ct_file
from tests.peers import HOST, free_port, orthanc, wait_until
from tests.receptions import RememberingReception

US = "OVERREAD"
TRANSACTION = "2.25.1234567890"


@dataclass(kw_only=True)
class Heard:
    """Remembers reports."""

    reports: list[tuple[str, frozenset[str], Mapping[str, str]]] = field(default_factory=list)
    failing: bool = False

    def on_commitment(self, transaction_uid: str, committed: frozenset[str], failed: Mapping[str, str]) -> None:
        """Remember a report, or fail."""
        if self.failing:
            raise OSError("the ledger is away")
        self.reports.append((transaction_uid, committed, failed))


def wanted(*uids: str) -> CommitmentRequest:
    """Return a request for CTs."""
    references = [
        Reference(study_instance_uid=STUDY, series_instance_uid=SERIES, sop_class_uid=CT, sop_instance_uid=uid)
        for uid in uids
    ]
    return CommitmentRequest(transaction_uid=TRANSACTION, references=references)


def our_listener(heard: Heard, port: int = 0) -> Listener:
    """Return our listener with an ear for reports."""
    settings = ListenerSettings(ae_title=US, port=port, allow_any_caller=True)
    return Listener(settings, RememberingReception(), heard)


@pytest.mark.peers
def test_orthanc_commits_what_it_has_on_a_new_association(tmp_path: Path) -> None:
    """Orthanc reports to our listener: what it stored is committed, what it never got is failed."""
    heard, port = Heard(), free_port()
    with our_listener(heard, port), orthanc(tmp_path, known={US: port}) as peer:
        pacs = Destination(name="pacs", ae_title=peer.ae_title, host=peer.host, port=peer.port)
        (result,) = send(pacs, [ct_file(tmp_path / "ct.dcm", "1.2.3.1")], US)
        assert result.outcome is SendOutcome.STORED, result.detail
        answer = request(pacs, wanted("1.2.3.1", "1.2.3.999"), US, heard)
        assert answer.outcome is CommitmentOutcome.ASKED, answer.detail
        wait_until(lambda: bool(heard.reports), 20, "Orthanc's report")
    denied = {"1.2.3.999": "it has no such object (0x0112)"}
    assert heard.reports == [(TRANSACTION, frozenset({"1.2.3.1"}), denied)]


def report(transaction_uid: str, *committed: str) -> Dataset:
    """Return the event information of a report by which all is well."""
    dataset = Dataset()
    dataset.TransactionUID = transaction_uid
    dataset.ReferencedSOPSequence = []
    for uid in committed:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, uid
        dataset.ReferencedSOPSequence.append(item)
    return dataset


@contextmanager
def archive(handlers: list[tuple[evt.EventType, Callable[[evt.Event], object]]]) -> Iterator[Destination]:
    """Run an archive that offers Storage Commitment, by pynetdicom."""
    entity = AE(ae_title="ARCHIVE")
    entity.add_supported_context(StorageCommitmentPushModel, scu_role=None, scp_role=None)
    port = free_port()
    server = entity.start_server((HOST, port), block=False, evt_handlers=handlers)
    try:
        yield Destination(name="archive", ae_title="ARCHIVE", host=HOST, port=port)
    finally:
        server.shutdown()


def send_report(association: object, transaction_uid: str) -> None:
    """Report on an association that someone else opened."""
    association.send_n_event_report(  # type: ignore[attr-defined]
        report(transaction_uid, "1.2.3.1"), 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )


def test_a_report_on_the_same_association_is_heard() -> None:
    """A PACS that reports on the association we asked on is heard before we release it."""
    heard = Heard()

    def asked(event: evt.Event) -> tuple[int, None]:
        uid = event.action_information.TransactionUID
        threading.Timer(0.1, send_report, (event.assoc, uid)).start()
        return 0, None

    with archive([(evt.EVT_N_ACTION, asked)]) as pacs:
        answer = request(pacs, wanted("1.2.3.1"), US, heard, Limits(report_seconds=10))
    assert answer.outcome is CommitmentOutcome.ASKED
    assert heard.reports == [(TRANSACTION, frozenset({"1.2.3.1"}), {})]


def test_a_report_on_a_later_association_of_ours_is_heard() -> None:
    """A PACS that waits for our next association is heard on that, whichever transaction it is about."""
    heard = Heard()

    def opened(event: evt.Event) -> None:
        threading.Timer(0.1, send_report, (event.assoc, "2.25.77")).start()

    with archive([(evt.EVT_ESTABLISHED, opened)]) as pacs:
        collect(pacs, US, heard, Limits(report_seconds=1))
    assert heard.reports == [("2.25.77", frozenset({"1.2.3.1"}), {})]


@pytest.mark.parametrize("failing", [False, True])
def test_a_report_on_a_new_association_is_answered(failing: bool) -> None:  # noqa: FBT001
    """Our listener takes the archive's role of SCP; a report that cannot be recorded is not confirmed."""
    heard = Heard(failing=failing)
    with our_listener(heard) as listener:
        association = AE(ae_title="ARCHIVE").associate(
            HOST,
            listener.port,
            contexts=[build_context(StorageCommitmentPushModel)],
            ae_title=US,
            ext_neg=[build_role(StorageCommitmentPushModel, scp_role=True)],
        )
        status, _ = association.send_n_event_report(
            report(TRANSACTION, "1.2.3.1"), 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        association.release()
    assert status.Status == (0x0110 if failing else 0x0000)
    assert bool(heard.reports) is not failing


def test_a_destination_without_commitment_is_told_apart_from_one_that_is_down() -> None:
    """Without the service we fall back to reading back; while down we ask again."""
    settings = ListenerSettings(ae_title="PACS", port=0, allow_any_caller=True)
    with Listener(settings, RememberingReception()) as listener:
        pacs = Destination(name="pacs", ae_title="PACS", host=HOST, port=listener.port)
        assert request(pacs, wanted("1.2.3.1"), US, Heard()).outcome is CommitmentOutcome.NOT_OFFERED
    assert request(pacs, wanted("1.2.3.1"), US, Heard()).outcome is CommitmentOutcome.RETRY
