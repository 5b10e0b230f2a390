"""The sender before real destinations: what they answer becomes stored, refused or retry, with a reason."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import ImplicitVRLittleEndian

from daemon.dimse.contexts import COMPREHENSIVE_3D_SR_STORAGE, SEGMENTATION_STORAGE
from daemon.dimse.listener import Listener, ListenerSettings
from daemon.dimse.query import present
from daemon.dimse.requestor import Limits, NotOfferedError, echo
from daemon.dimse.sender import send
from daemon.domain.admission import AllowedCaller
from daemon.domain.delivery import Destination, SendOutcome
from daemon.domain.reception import Announced, Verdict
from daemon.domain.references import Reference
from daemon.errors import RefusedError, RetryableError
from demo.ports import HOST, free_port
from tests.dicom_files import CT, SERIES, STUDY, ct_file, data_set
from tests.peers import Peer, dcmqrscp, orthanc, storescp, wait_until
from tests.receptions import RememberingReception

US = "OVERREAD"
QUICK = Limits(connect_seconds=20, association_seconds=20, answer_seconds=20)


def destination(peer: Peer) -> Destination:
    """Return a peer as a destination."""
    return Destination(name="pacs", ae_title=peer.ae_title, host=peer.host, port=peer.port)


def two_files(folder: Path) -> list[Path]:
    """Write a CT and a SEG-classed object."""
    return [
        ct_file(folder / "ct.dcm", "1.2.3.1"),
        ct_file(folder / "seg.dcm", "1.2.3.2", sop_class=SEGMENTATION_STORAGE),
    ]


@pytest.mark.peers
def test_objects_arrive_as_they_lie(tmp_path: Path) -> None:
    """Storescp stores what is sent byte for byte, over one association."""
    files = two_files(tmp_path)
    with storescp(tmp_path / "peer", "+xa", "+B") as peer:
        assert echo(destination(peer), US).ok
        results = list(send(destination(peer), files, US))
        assert [result.outcome for result in results] == [SendOutcome.STORED] * 2
        for path, result in zip(files, results, strict=True):
            (arrived,) = peer.folder.glob(f"*{result.sop_instance_uid}")
            assert data_set(arrived) == data_set(path)


@pytest.mark.peers
def test_an_object_is_rewritten_for_a_peer_that_takes_implicit_vr_only(tmp_path: Path) -> None:
    """A peer that accepts no Explicit VR gets the same elements in Implicit VR Little Endian."""
    path = ct_file(tmp_path / "ct.dcm")
    with storescp(tmp_path / "peer", "+xi", "+B") as peer:
        (result,) = send(destination(peer), [path], US)
        assert result.outcome is SendOutcome.STORED
        arrived = dcmread(next(peer.folder.iterdir()))
    assert arrived.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert arrived.PixelData == dcmread(path).PixelData


def test_a_destination_that_refuses_reports_still_gets_the_rest(tmp_path: Path) -> None:
    """A SOP class that is not accepted is refused with its name; other objects go through."""
    files = [ct_file(tmp_path / "ct.dcm", "1.2.3.1")]
    files += [ct_file(tmp_path / "sr.dcm", "1.2.3.2", sop_class=COMPREHENSIVE_3D_SR_STORAGE)]
    reception = RememberingReception()
    with Listener(ListenerSettings(ae_title="PACS", port=0, allow_any_caller=True), reception) as listener:
        pacs = Destination(name="pacs", ae_title="PACS", host=HOST, port=listener.port)
        stored, refused = send(pacs, files, US)
        (alone,) = send(pacs, files[1:], US)
    assert stored.outcome is SendOutcome.STORED
    assert "it does not support the SOP class" in refused.detail
    for result in (refused, alone):
        assert result.outcome is SendOutcome.REFUSED
        assert "Comprehensive 3D SR Storage" in result.detail


@pytest.mark.parametrize(
    ("verdict", "outcome"),
    [
        (Verdict.TOO_LARGE, SendOutcome.RETRY),
        (Verdict.MISMATCH, SendOutcome.REFUSED),
        (Verdict.MALFORMED, SendOutcome.REFUSED),
    ],
)
def test_a_status_decides_between_retry_and_refusal(tmp_path: Path, verdict: Verdict, outcome: SendOutcome) -> None:
    """Out of resources is tried again, a data set that the peer cannot take is not."""
    reception = RememberingReception(verdict=verdict)
    with Listener(ListenerSettings(ae_title="PACS", port=0, allow_any_caller=True), reception) as listener:
        pacs = Destination(name="pacs", ae_title="PACS", host=HOST, port=listener.port)
        (result,) = send(pacs, [ct_file(tmp_path / "ct.dcm")], US)
    assert result.outcome is outcome
    assert "status 0x" in result.detail


def test_a_destination_that_is_down_gives_retry_for_all(tmp_path: Path) -> None:
    """Nothing listening is no exception but RETRY with a sentence that names the destination."""
    pacs = Destination(name="pacs", ae_title="PACS", host=HOST, port=free_port())
    results = list(send(pacs, two_files(tmp_path), US, QUICK))
    assert [result.outcome for result in results] == [SendOutcome.RETRY] * 2
    assert "pacs" in results[0].detail
    assert not echo(pacs, US, QUICK).ok


def test_a_name_that_does_not_resolve_gives_retry(tmp_path: Path) -> None:
    """A host name unknown today may be known tomorrow."""
    pacs = Destination(name="pacs", ae_title="PACS", host="no-such-host.invalid", port=104)
    (result,) = send(pacs, [ct_file(tmp_path / "ct.dcm")], US, QUICK)
    assert result.outcome is SendOutcome.RETRY


def test_a_rejected_association_gives_retry_with_the_reason(tmp_path: Path) -> None:
    """A PACS that does not know our AE title yet is asked again later, and the sentence says what to enter."""
    settings = ListenerSettings(ae_title="PACS", port=0, callers=frozenset({AllowedCaller(ae_title="OTHER")}))
    with Listener(settings, RememberingReception()) as listener:
        pacs = Destination(name="pacs", ae_title="PACS", host=HOST, port=listener.port)
        (result,) = send(pacs, [ct_file(tmp_path / "ct.dcm")], US)
    assert result.outcome is SendOutcome.RETRY
    assert "calling ae title not recognised" in result.detail
    assert US in result.detail


def three_files(folder: Path, size: int = 64) -> list[Path]:
    """Write three CTs."""
    return [ct_file(folder / f"{number}.dcm", f"1.2.3.{number}", size) for number in range(3)]


def test_an_association_that_breaks_leaves_the_rest_to_retry(tmp_path: Path) -> None:
    """A peer that falls silent at the second object: the first is stored, the others are tried again."""
    awake = threading.Event()

    def pause(announced: Announced) -> None:
        assert announced.sop_instance_uid == "1.2.3.0" or awake.wait(60)

    settings = ListenerSettings(ae_title="PACS", port=0, allow_any_caller=True)
    with Listener(settings, RememberingReception(on_open=pause)) as listener:
        pacs = Destination(name="pacs", ae_title="PACS", host=HOST, port=listener.port)
        first, *rest = send(pacs, three_files(tmp_path), US, replace(QUICK, answer_seconds=1))
        awake.set()
    assert first.outcome is SendOutcome.STORED
    assert [(result.outcome, result.tried) for result in rest] == [
        (SendOutcome.RETRY, True),
        (SendOutcome.RETRY, False),
    ]


@pytest.mark.parametrize(("size", "ahead"), [(64, True), (800, False)])
def test_the_next_object_goes_out_before_word_of_one(tmp_path: Path, size: int, ahead: bool) -> None:  # noqa: FBT001
    """One, and not two, where it is not too large to lie ready; each arrives once, as it lies, in order."""
    files, reception = three_files(tmp_path, size), RememberingReception()
    with Listener(ListenerSettings(ae_title="PACS", port=0, allow_any_caller=True), reception) as listener:
        pacs = Destination(name="pacs", ae_title="PACS", host=HOST, port=listener.port)
        results = send(pacs, files, US, QUICK)
        told = [next(results)]
        if ahead:
            wait_until(lambda: [one.finished for one in reception.objects] == [True] * 2, 20, "the second object")
        told += [next(results)]
        arrived = len(reception.objects)
        told += results
    assert arrived in ({2, 3} if ahead else {2})
    assert [(one.sop_instance_uid, one.outcome) for one in told] == [
        (f"1.2.3.{number}", SendOutcome.STORED) for number in range(3)
    ]
    assert all(one.content.endswith(data_set(path)) for one, path in zip(reception.objects, files, strict=True))


def test_a_file_that_is_gone_holds_up_nothing_before_it(tmp_path: Path) -> None:
    """What was already sent is told of, though its turn to lie ready came before."""
    files, reception = three_files(tmp_path), RememberingReception()
    with Listener(ListenerSettings(ae_title="PACS", port=0, allow_any_caller=True), reception) as listener:
        pacs = Destination(name="pacs", ae_title="PACS", host=HOST, port=listener.port)
        results = send(pacs, files, US, QUICK)
        assert next(results).outcome is SendOutcome.STORED
        files[2].unlink()
        assert next(results).outcome is SendOutcome.STORED
        with pytest.raises(FileNotFoundError):
            next(results)


def test_a_file_that_is_not_dicom_is_named(tmp_path: Path) -> None:
    """A path that is no Part 10 file is refused before anything is sent."""
    path = tmp_path / "notes.txt"
    path.write_text("not DICOM")
    pacs = Destination(name="pacs", ae_title="PACS", host=HOST, port=free_port())
    with pytest.raises(RefusedError, match=r"notes\.txt"):
        list(send(pacs, [path], US, QUICK))


def reference(uid: str) -> Reference:
    """Return a reference to a CT of the tests' series."""
    return Reference(study_instance_uid=STUDY, series_instance_uid=SERIES, sop_class_uid=CT, sop_instance_uid=uid)


@pytest.mark.peers
@pytest.mark.parametrize("kind", ["dcmqrscp", "orthanc"])
def test_read_back_finds_what_is_there(tmp_path: Path, kind: str) -> None:
    """C-FIND tells what an archive has from what it has not."""
    path = ct_file(tmp_path / "ct.dcm", "1.2.3.1")
    running = dcmqrscp(tmp_path / "peer") if kind == "dcmqrscp" else orthanc(tmp_path / "peer", known={US: free_port()})
    with running as peer:
        wanted = [reference("1.2.3.1"), reference("1.2.3.999")]
        assert present(destination(peer), wanted, US) == frozenset()
        (result,) = send(destination(peer), [path], US)
        assert result.outcome is SendOutcome.STORED, result.detail
        assert present(destination(peer), wanted, US) == {"1.2.3.1"}


def test_read_back_says_why_it_cannot() -> None:
    """A destination without queries is told apart from one that is down."""
    settings = ListenerSettings(ae_title="PACS", port=0, allow_any_caller=True)
    with Listener(settings, RememberingReception()) as listener:
        pacs = Destination(name="pacs", ae_title="PACS", host=HOST, port=listener.port)
        with pytest.raises(NotOfferedError):
            present(pacs, [reference("1.2.3.1")], US)
    with pytest.raises(RetryableError):
        present(pacs, [reference("1.2.3.1")], US, QUICK)


@pytest.mark.peers
def test_an_association_leaves_no_descriptor_and_no_thread(tmp_path: Path) -> None:
    """Neither one that was served nor one that nobody answered leaves anything open behind."""
    files = two_files(tmp_path)
    nobody = Destination(name="nobody", ae_title="NOBODY", host=HOST, port=free_port())
    with storescp(tmp_path / "peer", "+xa", "+B") as peer:

        def both() -> None:
            assert all(one.outcome is SendOutcome.STORED for one in send(destination(peer), files, US))
            assert all(one.outcome is SendOutcome.RETRY for one in send(nobody, files, US, QUICK))

        both()
        before = len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
        for _ in range(3):
            both()
        wait_until(lambda: threading.active_count() <= before[1], 60, "the associations' threads to end")
        assert len(list(Path("/proc/self/fd").iterdir())) <= before[0]
