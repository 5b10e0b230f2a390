"""What the listener does not take: the sender gets the right reason, and nothing is kept by halves."""

import errno
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import build_context
from pynetdicom.association import Association

from daemon.dimse import requestor
from daemon.dimse.listener import Listener, ListenerSettings
from daemon.dimse.sender import send
from daemon.domain.admission import AllowedCaller, Denial
from daemon.domain.delivery import Destination, SendOutcome
from daemon.domain.reception import Verdict
from daemon.errors import RefusedError, RetryableError
from demo.ports import HOST, listens
from tests.dicom_files import CT, ct_file
from tests.peers import echoscu, wait_until
from tests.receptions import RememberedObject, RememberingReception


def listening(reception: RememberingReception, **changes: object) -> Listener:
    """Return a listener with `changes` to the settings."""
    usual = ListenerSettings(ae_title="OVERREAD", port=0, allow_any_caller=True)
    return Listener(replace(usual, **changes), reception)  # type: ignore[arg-type]


def associate(
    listener: Listener, calling_ae: str = "TESTER", called_ae: str = "OVERREAD", host: str = HOST
) -> Association:
    """Return what pynetdicom's requestor made of asking for an association for CT."""
    contexts = [build_context(CT, "1.2.840.10008.1.2.1")]
    entity = requestor.RequestingEntity(ae_title=calling_ae)
    association = entity.associate(host, listener.port, contexts=contexts, ae_title=called_ae)
    requestor.keep_answers(association)
    return association


def asked(listener: Listener) -> AbstractContextManager[Association]:
    """Ask for an association for CT as the daemon does."""
    destination = Destination(name="self", ae_title="OVERREAD", host=HOST, port=listener.port)
    return requestor.association(destination, "TESTER", [build_context(CT, "1.2.840.10008.1.2.1")])


def store(association: Association, path: Path) -> Dataset:
    """Send a file and return the status data set."""
    answer: Dataset = association.send_c_store(dcmread(path))
    return answer


@pytest.mark.peers
def test_an_unknown_caller_is_rejected_with_its_reason() -> None:
    """Calling AE title not recognised: permanent, by the service user, reason 3; a known one gets in."""
    callers = frozenset({AllowedCaller(ae_title="SCANNER")})
    with listening(RememberingReception(), allow_any_caller=False, callers=callers) as listener:
        refused = echoscu(listener.port, calling_ae="STRANGER")
        assert refused.returncode != 0
        assert "Calling AE Title Not Recognized" in refused.stdout + refused.stderr
        assert echoscu(listener.port, calling_ae="SCANNER").returncode == 0


@pytest.mark.peers
def test_a_known_caller_at_a_wrong_address_is_rejected_as_unknown(caplog: pytest.LogCaptureFixture) -> None:
    """To the peer it is a calling AE title not recognised; the log says that the address was it."""
    elsewhere = frozenset({AllowedCaller.parse("SCANNER@127.0.0.2")})
    with listening(RememberingReception(), allow_any_caller=False, callers=elsewhere) as listener:
        refused = echoscu(listener.port, calling_ae="SCANNER")
    assert "Calling AE Title Not Recognized" in refused.stdout + refused.stderr
    assert "'SCANNER' at 127.0.0.1" in caplog.text
    assert Denial.ELSEWHERE.value in caplog.text
    here = frozenset({AllowedCaller.parse("SCANNER@127.0.0.0/8")})
    with listening(RememberingReception(), allow_any_caller=False, callers=here) as listener:
        assert echoscu(listener.port, calling_ae="SCANNER").returncode == 0


def test_it_listens_on_an_ipv6_address() -> None:
    """An IPv6 caller is told by its address too."""
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no ::1")
    loopback = frozenset({AllowedCaller.parse("TESTER@::1")})
    with listening(RememberingReception(), host="::1", allow_any_caller=False, callers=loopback) as listener:
        association = associate(listener, host="::1")
        assert association.is_established
        association.release()


@pytest.mark.peers
def test_a_wrong_called_ae_is_rejected_with_its_reason() -> None:
    """Called AE title not recognised: reason 7."""
    with listening(RememberingReception()) as listener:
        refused = echoscu(listener.port, called_ae="OTHER")
    assert "Called AE Title Not Recognized" in refused.stdout + refused.stderr


def test_one_association_too_many_is_rejected_for_now() -> None:
    """The limit gives a transient rejection, local limit exceeded, and a place that falls free is given."""
    reception = RememberingReception()
    with listening(reception, max_associations=1) as listener:
        first = associate(listener)
        reason = r"association rejected \(transient\): local limit exceeded"
        with pytest.raises(RetryableError, match=reason), asked(listener):
            pytest.fail("a second association was accepted")
        first.release()
        wait_until(lambda: len(reception.closed) == 1, 60, "the first association to close")
        third = associate(listener)
        assert third.is_established
        third.release()


def test_a_private_sop_class_is_not_negotiated(tmp_path: Path) -> None:
    """An instance of a private SOP class is refused at negotiation, and the others of the push arrive."""
    reception = RememberingReception()
    (tmp_path / "push").mkdir()
    ct_file(tmp_path / "push/a.dcm", "1.2.3.1", sop_class="1.3.46.670589.11.0.0.12.1")
    ct_file(tmp_path / "push/b.dcm", "1.2.3.2")
    with listening(reception) as listener:
        destination = Destination(name="self", ae_title="OVERREAD", host=HOST, port=listener.port)
        results = list(send(destination, sorted((tmp_path / "push").iterdir()), "TESTER"))
    assert [result.outcome for result in results] == [SendOutcome.REFUSED, SendOutcome.STORED]
    assert [incoming.announced.sop_instance_uid for incoming in reception.objects] == ["1.2.3.2"]


@pytest.mark.parametrize(
    ("verdict", "status"),
    [
        (Verdict.STORED, 0x0000),
        (Verdict.DUPLICATE, 0x0000),
        (Verdict.OURS, 0x0000),
        (Verdict.CONFLICT, 0x0000),
        (Verdict.TOO_LARGE, 0xA700),
        (Verdict.TOO_MANY, 0xA700),
        (Verdict.MISMATCH, 0xA900),
        (Verdict.MALFORMED, 0xC000),
    ],
)
def test_each_verdict_is_answered(tmp_path: Path, verdict: Verdict, status: int) -> None:
    """The reception's verdict decides the status, and a refusal says why."""
    with listening(RememberingReception(verdict=verdict)) as listener:
        association = associate(listener)
        answer = store(association, ct_file(tmp_path / "ct.dcm"))
        association.release()
    assert answer.Status == status
    assert bool(answer.get("ErrorComment")) is bool(status)


def raising(error: Exception) -> Callable[[object], None]:
    """Return a function that raises `error`."""

    def fail(_: object) -> None:
        raise error

    return fail


def no_fault(_: object) -> None:
    """Let it pass."""


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OSError(28, "No space left on device"), 0xA700),
        (RetryableError("the ledger is busy"), 0xA700),
        (RefusedError("not a DICOM data set"), 0xC000),
        (ZeroDivisionError("a fault of ours"), 0x0110),
    ],
)
@pytest.mark.parametrize("where", ["open", "write"])
def test_a_fault_while_receiving_fails_one_object_only(
    tmp_path: Path, error: Exception, status: int, where: str
) -> None:
    """A fault is never answered with success, its object is aborted, and the association lives on."""
    reception = RememberingReception()
    path = ct_file(tmp_path / "ct.dcm")
    with listening(reception) as listener:
        association = associate(listener)
        if where == "open":
            reception.on_open = raising(error)
        else:
            reception.on_write = raising(error)
        assert store(association, path).Status == status
        reception.on_open, reception.on_write = no_fault, no_fault
        assert store(association, path).Status == 0
        association.release()
    assert [incoming.aborted for incoming in reception.objects] == ([False] if where == "open" else [True, False])


def fragment(context_id: int, control: int, data: bytes) -> bytes:
    """Return a P-DATA-TF PDU with one presentation data value."""
    value = struct.pack(">LBB", len(data) + 2, context_id, control) + data
    return struct.pack(">BxL", 4, len(value)) + value


def answer_to(association: Association, message: bytes) -> Dataset:
    """Send bytes on an association's connection and return the response to them."""
    association._reactor_checkpoint.clear()
    wait_until(lambda: bool(association._is_paused), 60, "pynetdicom's reactor to leave the answer to us")
    association.dul.socket.socket.sendall(message)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    return answer


def store_request(uid: str, sop_class: str = CT) -> bytes:
    """Return the command set of a C-STORE request, by hand: pydicom would not write a UID that is none."""
    values = {
        0x0002: sop_class.encode(),
        0x0100: b"\1\0",
        0x0110: b"\1\0",
        0x0700: b"\0\0",
        0x0800: b"\0\0",
        0x1000: uid.encode(),
    }
    body = b""
    for element, value in values.items():
        padded = value + b"\0" * (len(value) % 2)
        body += struct.pack("<HHL", 0, element, len(padded)) + padded
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


@pytest.mark.parametrize("how", ["reset", "close", "abort"])
def test_a_sender_that_vanishes_leaves_nothing(how: str) -> None:
    """A connection cut inside an object aborts it, and the reception hears that the association closed."""
    begun = threading.Event()
    reception = RememberingReception(on_write=lambda size: begun.set() if size else None)
    with listening(reception) as listener:
        association = associate(listener)
        link = association.dul.socket.socket
        link.sendall(fragment(1, 3, store_request("1.2.3.4")) + fragment(1, 0, bytes(1000)))
        assert begun.wait(60)
        if how == "reset":
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how == "abort":
            association.abort()
        else:
            link.close() if how == "reset" else link.shutdown(socket.SHUT_RDWR)
        wait_until(lambda: len(reception.closed) == 1, 60, "the association to close")
        association.kill()
    (incoming,) = reception.objects
    assert incoming.aborted
    assert not incoming.finished


def test_a_half_object_that_the_disk_does_not_let_go_keeps_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The association's end is told and its place given back, though what came by halves could not be dropped."""

    def stale(_: RememberedObject) -> None:
        raise OSError(errno.ESTALE, "stale file handle")

    monkeypatch.setattr(RememberedObject, "abort", stale)
    begun = threading.Event()
    reception = RememberingReception(on_write=lambda size: begun.set() if size else None)
    with listening(reception) as listener:
        association = associate(listener)
        association.dul.socket.socket.sendall(fragment(1, 3, store_request("1.2.3.4")) + fragment(1, 0, bytes(1000)))
        assert begun.wait(60)
        association.abort()
        wait_until(lambda: len(reception.closed) == 1 and not listener._seats.taken, 60, "the place to be given back")


@pytest.mark.parametrize(
    "nonsense",
    [
        pytest.param(fragment(1, 2, b"data"), id="data set without command"),
        pytest.param(fragment(1, 3, b"\xff" * 30), id="command set of noise"),
        pytest.param(fragment(99, 3, store_request("1.2.3.4")), id="context never accepted"),
        pytest.param(struct.pack(">BxLLBB", 4, 6, 5000, 1, 3), id="length beyond the PDU"),
        pytest.param(struct.pack(">BxL", 4, 1 << 31), id="PDU of two gigabytes"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="HTTP"),
    ],
)
def test_nonsense_aborts_that_association_only(nonsense: bytes) -> None:
    """Bytes that break the protocol get an abort at once; the listener goes on."""
    reception = RememberingReception()
    with listening(reception) as listener:
        association = associate(listener)
        association.dul.socket.socket.sendall(nonsense)
        wait_until(lambda: bool(association.is_aborted), 60, "an abort")
        wait_until(lambda: len(reception.closed) == 1, 60, "the association to close")
        other = associate(listener)
        assert other.is_established
        other.release()
    assert reception.objects == []


def test_noise_instead_of_an_association_request_is_dropped() -> None:
    """A port scanner or a browser gets hung up on."""
    with listening(RememberingReception()) as listener, socket.create_connection((HOST, listener.port), 5) as link:
        link.sendall(b"GET / HTTP/1.1\r\n\r\n")
        link.settimeout(10)
        assert link.recv(100)[:1] in {b"", b"\x07"}


@pytest.mark.parametrize("uid", ["../../etc/passwd", "1.2.x", "1" * 65, ""])
def test_a_uid_that_is_none_is_refused(uid: str) -> None:
    """Only digits and dots, at most 64, reach the reception: a UID may become a file name."""
    reception = RememberingReception()
    with listening(reception) as listener:
        association = associate(listener)
        answer = answer_to(association, fragment(1, 3, store_request(uid)) + fragment(1, 2, bytes(100)))
        assert answer.Status == 0x0117
        association.release()
    assert reception.objects == []


def test_another_sop_class_than_negotiated_is_refused() -> None:
    """A C-STORE of a class other than its presentation context's gets SOP class not supported."""
    reception = RememberingReception()
    request = store_request("1.2.3.4", "1.2.840.10008.5.1.4.1.1.4")
    with listening(reception) as listener:
        association = associate(listener)
        answer = answer_to(association, fragment(1, 3, request) + fragment(1, 2, bytes(100)))
        assert answer.Status == 0x0122
        association.release()
    assert reception.objects == []


def test_a_silent_sender_is_hung_up_on() -> None:
    """An association at rest longer than allowed is aborted, one inside an object sooner."""
    reception = RememberingReception()
    with listening(reception, idle_seconds=0.2) as listener:
        association = associate(listener)
        wait_until(lambda: len(reception.closed) == 1, 60, "the idle association to be aborted")
        wait_until(lambda: bool(association.is_aborted), 60, "the abort to arrive")
    reception = RememberingReception()
    with listening(reception, network_seconds=0.2) as listener:
        association = associate(listener)
        association.dul.socket.socket.sendall(fragment(1, 3, store_request("1.2.3.4")))
        wait_until(lambda: len(reception.closed) == 1, 60, "the stuck association to be aborted")
    assert reception.objects[0].aborted


def test_stop_lets_a_running_association_finish(tmp_path: Path) -> None:
    """After stop no one new gets in, but an object on its way is taken and answered."""
    begun, go_on = threading.Event(), threading.Event()

    def hold(size: int) -> None:
        begun.set()
        assert size < 0 or go_on.wait(60)

    reception = RememberingReception(on_write=hold)
    listener = listening(reception)
    listener.start()
    port = listener.port
    association = associate(listener)
    sent: list[Dataset] = []
    sender = threading.Thread(target=lambda: sent.append(store(association, ct_file(tmp_path / "ct.dcm"))))
    sender.start()
    assert begun.wait(60)
    stopper = threading.Thread(target=listener.stop)
    stopper.start()
    wait_until(lambda: not listens(port), 60, "the listener to take no more")
    go_on.set()
    sender.join(60)
    association.release()
    stopper.join(60)
    assert sent[0].Status == 0
    assert reception.objects[0].finished


def test_stop_aborts_who_does_not_finish() -> None:
    """An association that stays open past the limit is aborted, and its object with it."""
    reception = RememberingReception()
    listener = listening(reception)
    listener.start()
    association = associate(listener)
    association.dul.socket.socket.sendall(fragment(1, 3, store_request("1.2.3.4")))
    wait_until(lambda: bool(reception.objects), 60, "the object to begin")
    listener.stop(0.1)
    wait_until(lambda: bool(association.is_aborted), 60, "an abort")
    assert reception.objects[0].aborted
