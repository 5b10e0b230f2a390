"""The listener before real senders: what arrives is what was sent, and what cannot be taken is told."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Semaphore

import pytest
from pydicom import dcmread
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom.dsutils import split_dataset

from daemon.dimse.contexts import RECEIVED, transfer_syntaxes
from daemon.dimse.listener import Listener, ListenerSettings
from daemon.dimse.sender import send
from daemon.domain.delivery import Destination, SendOutcome
from demo.ports import HOST
from tests.dicom_files import ct_file, data_set, opaque_file, shared_folder
from tests.peers import echoscu, storescu, wait_until
from tests.receptions import RememberedObject, RememberingReception


@pytest.fixture
def reception() -> RememberingReception:
    """Return an empty reception."""
    return RememberingReception()


@pytest.fixture
def listener(reception: RememberingReception) -> Iterator[Listener]:
    """Yield a running listener that takes any caller."""
    with Listener(ListenerSettings(ae_title="OVERREAD", port=0, allow_any_caller=True), reception) as running:
        yield running


def send_as_it_is(listener: Listener, path: Path) -> None:
    """Send a file's data set by our own sender, which passes it on unread, and require success."""
    destination = Destination(name="self", ae_title="OVERREAD", host=HOST, port=listener.port)
    (result,) = send(destination, [path], "TESTER")
    assert result.outcome is SendOutcome.STORED, result.detail


def written(folder: Path, incoming: RememberedObject) -> Path:
    """Write what came to a file."""
    path = folder / "arrived.dcm"
    path.write_bytes(incoming.content)
    return path


@pytest.mark.peers
def test_verification_is_answered(listener: Listener) -> None:
    """DCMTK's echoscu gets success."""
    assert echoscu(listener.port).returncode == 0


@pytest.mark.peers
@pytest.mark.parametrize(
    ("syntax", "option"),
    [
        (ExplicitVRLittleEndian, "-xe"),
        (ImplicitVRLittleEndian, "-xi"),
    ],
)
def test_objects_of_storescu_arrive(
    tmp_path: Path, listener: Listener, reception: RememberingReception, syntax: str, option: str
) -> None:
    """What storescu sends is a Part 10 file with the same pixels."""
    path = ct_file(tmp_path / "ct.dcm")
    sent = storescu(listener.port, [path], option)
    assert sent.returncode == 0, sent.stderr
    arrived = dcmread(written(tmp_path, reception.objects[0]))
    assert arrived.file_meta.TransferSyntaxUID == reception.objects[0].announced.transfer_syntax_uid == syntax
    assert (arrived.pixel_array == dcmread(path).pixel_array).all()


def test_what_the_next_object_needs_is_done_once_the_answer_is_out(
    tmp_path: Path, listener: Listener, reception: RememberingReception
) -> None:
    """The sender has its answer, and may do whatever it likes, while we make ready; once for each object."""
    paths = [ct_file(tmp_path / f"{number}.dcm", f"1.2.3.{number}") for number in range(3)]
    destination = Destination(name="self", ae_title="OVERREAD", host=HOST, port=listener.port)
    answered, rests = Semaphore(0), []
    reception.on_rest = lambda: rests.append(answered.acquire(timeout=20))
    for result in send(destination, paths, "TESTER"):
        assert result.outcome is SendOutcome.STORED, result.detail
        answered.release()
    wait_until(lambda: len(reception.closed) == 1, 60, "the association to end")
    assert rests == [True] * 3


@pytest.mark.parametrize("syntax", transfer_syntaxes(), ids=lambda uid: uid.keyword)
def test_every_accepted_transfer_syntax_arrives_byte_equal(
    tmp_path: Path, listener: Listener, reception: RememberingReception, syntax: str
) -> None:
    """The bytes of the data set arrive exactly as sent, undecoded, in each accepted transfer syntax."""
    body = b"\x08\x00" + os.urandom(400_000)  # no data set begins with group 2, which ends the file meta information
    send_as_it_is(listener, opaque_file(tmp_path / "object.dcm", syntax, body))
    assert data_set(written(tmp_path, reception.objects[0])) == body
    assert reception.objects[0].announced.transfer_syntax_uid == syntax
    assert reception.objects[0].finished


@pytest.mark.shared
def test_real_images_arrive_byte_equal(tmp_path: Path, listener: Listener, reception: RememberingReception) -> None:
    """Images as scanners and archives wrote them arrive byte for byte, whatever their syntax."""
    syntaxes: set[str] = set()
    for path in sorted(shared_folder().glob("data/dicom/*-transfer-syntaxes/**/*.dcm")):
        meta, _ = split_dataset(path)
        if meta.get("MediaStorageSOPClassUID") not in RECEIVED or meta.TransferSyntaxUID not in transfer_syntaxes():
            continue
        send_as_it_is(listener, path)
        assert data_set(written(tmp_path, reception.objects[-1])) == data_set(path), path.name
        syntaxes.add(meta.TransferSyntaxUID)
    assert len(syntaxes) > 3


@pytest.mark.peers
def test_two_associations_at_once_do_not_mix(
    tmp_path: Path, listener: Listener, reception: RememberingReception
) -> None:
    """Two senders at the same time get every object through whole, each on its own association."""
    sent: dict[str, Path] = {}
    for sender in ("A", "B"):
        (tmp_path / sender).mkdir()
        for number in range(20):
            uid = f"1.2.3.{ord(sender)}.{number}"
            sent[uid] = ct_file(tmp_path / sender / f"{number}.dcm", uid, size=256)
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda name: storescu(listener.port, [tmp_path / name], calling_ae=name), ("A", "B")))
    assert [run.returncode for run in runs] == [0, 0]
    assert {incoming.announced.sop_instance_uid for incoming in reception.objects} == set(sent)
    for incoming in reception.objects:
        assert data_set(written(tmp_path, incoming)) == data_set(sent[incoming.announced.sop_instance_uid])
    associations = {(one.announced.association, one.announced.calling_ae) for one in reception.objects}
    assert associations == set(reception.opened)


@pytest.mark.peers
def test_a_duplicate_from_another_caller_is_the_same_file(
    tmp_path: Path, listener: Listener, reception: RememberingReception
) -> None:
    """Who sends an instance leaves no trace in the file, so that a duplicate can be told by its digest."""
    path = ct_file(tmp_path / "ct.dcm")
    storescu(listener.port, [path], calling_ae="ONE")
    storescu(listener.port, [path], calling_ae="TWO")
    first, second = reception.objects
    assert first.content == second.content
