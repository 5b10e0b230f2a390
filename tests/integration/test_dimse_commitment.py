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

from daemon.couriers import CommitmentReports
from daemon.dimse.commitment import CommitmentOutcome, CommitmentRequest, collect, request
from daemon.dimse.listener import Listener, ListenerSettings
from daemon.dimse.requestor import Limits, keep_answers
from daemon.dimse.sender import send
from daemon.domain.delivery import DeliveryState, Destination, SendOutcome
from daemon.domain.references import Reference
from daemon.domain.work import Change
from daemon.ledger.engine import connect
from daemon.ledger.migrate import upgrade
from daemon.ledger.queries import Queries
from demo.ports import HOST, free_port
from tests.dicom_files import CT, SERIES, STUDY, ct_file
from tests.houses import House
from tests.instances import NOW
from tests.peers import orthanc, wait_until
from tests.receptions import RememberingReception

US = "OVERREAD"
TRANSACTION = "2.25.1234567890"


@dataclass(kw_only=True)
class Heard:
    """Remembers reports."""

    reports: list[tuple[str, frozenset[str], Mapping[str, int | None]]] = field(default_factory=list)
    failing: bool = False

    def on_commitment(self, transaction_uid: str, committed: frozenset[str], failed: Mapping[str, int | None]) -> None:
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
        wait_until(lambda: bool(heard.reports), 60, "Orthanc's report")
    denied = {"1.2.3.999": 0x0112}
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
        collect(pacs, US, heard, Limits(report_seconds=5))
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
        keep_answers(association)
        status, _ = association.send_n_event_report(
            report(TRANSACTION, "1.2.3.1"), 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        association.release()
    assert status.Status == (0x0110 if failing else 0x0000)
    assert bool(heard.reports) is not failing


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[House]:
    """A house whose two results were sent, and whose commitment was asked for."""
    engine = connect(f"sqlite:///{tmp_path / 'ledger.db'}")
    upgrade(engine)
    house = House(tmp_path, engine)
    house.completed(b"one", b"two")
    sent = [
        Change(id=n, state=DeliveryState.SENT, due_at=NOW, detail="asked", transaction_uid=TRANSACTION) for n in (1, 2)
    ]
    house.deliveries.change(sent, NOW)
    yield house
    engine.dispose()


def told(listener: Listener, event: Dataset) -> int:
    """Report to our listener on a new association, in the role of SCP; return the answer."""
    association = AE(ae_title="ARCHIVE").associate(
        HOST,
        listener.port,
        contexts=[build_context(StorageCommitmentPushModel)],
        ae_title=US,
        ext_neg=[build_role(StorageCommitmentPushModel, scp_role=True)],
    )
    keep_answers(association)
    status, _ = association.send_n_event_report(
        event, 2, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    association.release()
    return int(status.Status)


def denying(reason: int | None, uid: str = "9.0") -> Dataset:
    """Return the event information of a report by which one object failed."""
    dataset, item = report(TRANSACTION), Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, uid
    if reason is not None:
        item.FailureReason = reason
    dataset.FailedSOPSequence = [item]
    return dataset


@pytest.mark.parametrize(
    ("reason", "state", "words"),
    [
        (0x0110, "PENDING", "processing failure (0x0110)"),
        (0x0112, "PENDING", "it has no such object (0x0112)"),
        (0x0119, "DEAD", "it has an object of another class under this UID (0x0119): mend that there"),
        (0x0122, "SENT", "it does not commit this SOP class (0x0122)"),
        (0x0131, "SENT", "the transaction UID was used before (0x0131)"),
        (0x0213, "PENDING", "resource limitation (0x0213)"),
        (0xC123, "PENDING", "unknown reason (0xC123)"),
        (None, "PENDING", "no reason given"),
    ],
)
def test_each_reason_of_a_denial_has_its_words_and_its_consequence(
    asked: House, reason: int | None, state: str, words: str
) -> None:
    """It comes by a real association; what the report leaves out waits, to be read back."""
    settings = ListenerSettings(ae_title=US, port=0, allow_any_caller=True)
    reports = CommitmentReports(asked.deliveries, asked.clock)
    with Listener(settings, asked.reception, reports) as listener:
        assert told(listener, denying(reason)) == 0x0000
        assert told(listener, denying(reason, "1.2.3.4")) == 0x0000
    assert asked.states() == [state, "SENT"]
    found = Queries(asked.engine).delivery(1)
    assert found is not None
    assert words in found.detail


def test_what_is_not_committed_by_class_is_looked_for(asked: House) -> None:
    """A PACS that commits no reports is asked by query whether it has them, at once, and nothing is sent twice."""
    asked.deliveries.committed(TRANSACTION, [], {"9.0": 0x0122, "9.1": 0x0122}, NOW)
    asked.courier.present_uids = frozenset({"9.0", "9.1"})
    _, confirm = asked.post()
    assert confirm.step("pacs") == 2
    assert asked.states() == ["CONFIRMED"] * 2
    assert asked.courier.sent == []


def test_a_destination_without_commitment_is_told_apart_from_one_that_is_down() -> None:
    """Without the service we fall back to reading back; while down we ask again."""
    settings = ListenerSettings(ae_title="PACS", port=0, allow_any_caller=True)
    with Listener(settings, RememberingReception()) as listener:
        pacs = Destination(name="pacs", ae_title="PACS", host=HOST, port=listener.port)
        assert request(pacs, wanted("1.2.3.1"), US, Heard()).outcome is CommitmentOutcome.NOT_OFFERED
    assert request(pacs, wanted("1.2.3.1"), US, Heard()).outcome is CommitmentOutcome.RETRY
