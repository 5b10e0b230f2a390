"""What is fuzzed: each target takes any bytes as a stranger may send them, and raises only where a promise is broken.

`python -m tests.fuzz` drives them by coverage; a unit test drives them by their seeds.
"""

import io
import json
import logging
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from pynetdicom.dsutils import encode

from daemon.config import bundled_models
from daemon.dimse.command import Command, respond
from daemon.dimse.fastpath import FastAssociation
from daemon.dimse.listener import Listener, ListenerSettings, _Guest
from daemon.dimse.notices import decode_notice
from daemon.dimse.reports import decode_report, request_dataset
from daemon.dimse.sender import send
from daemon.dimse.sockets import FastSocket
from daemon.dimse.statuses import SUCCESS, Status
from daemon.domain.assembly import Patience, StudyFacts, judge
from daemon.domain.delivery import Destination
from daemon.domain.output import OutputKind
from daemon.domain.references import Reference
from daemon.domain.selection import choose
from daemon.errors import RefusedError
from daemon.imaging.facts import Stored, look, read_facts
from daemon.imaging.read import read_series
from daemon.inference.bundle import installed
from daemon.ledger.rows import instance_json, instance_of
from daemon.results.returned import claims, compare
from daemon.spool.store import HEAD_BYTES
from demo.ports import HOST
from dicom_fixtures.planes import Layout, Orientation
from dicom_fixtures.studies import StudyRequest, make_brain_mri
from tests.corrections import corrected, lower_half
from tests.dicom_files import ct_file
from tests.instances import NOW
from tests.receptions import RememberingReception
from tests.shared import ROOT, files
from tests.sources import COARSE, blobs, case

SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")
RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time to linger: no port rests for a minute
MOST_SEED = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Target:
    """A way in: what it does with bytes, and whole ones to begin with."""

    take: Callable[[bytes], None]
    seeds: Sequence[bytes]


class _Faults(logging.Handler):
    """Keeps what the daemon calls an unexpected fault."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.found.append(record)


@contextmanager
def no_fault() -> Iterator[None]:
    """Raise what the body had the daemon log as an error."""
    faults, logger = _Faults(), logging.getLogger("daemon")
    logger.addHandler(faults)
    try:
        yield
    finally:
        logger.removeHandler(faults)
    for record in faults.found:
        raise AssertionError(record.getMessage()) from (record.exc_info[1] if record.exc_info else None)


def association(folder: Path) -> Target:
    """Return what takes all that one caller says: every PDU, command set and fragment."""
    listener = Listener(ListenerSettings(ae_title="OVERREAD", port=0, allow_any_caller=True), RememberingReception())

    def take(data: bytes) -> None:
        reception = listener._reception = RememberingReception()
        with socket.create_server((HOST, 0)) as door:
            caller = socket.create_connection(door.getsockname())
            served, _ = door.accept()
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        with caller, no_fault():
            caller.sendall(data[:MOST_SEED])
            caller.shutdown(socket.SHUT_WR)
            FastAssociation(listener._entity, served, _Guest(listener), 5.0, FastSocket).run_reactor()
        assert len(reception.closed) == len(reception.opened)
        assert all(one.finished != one.aborted for one in reception.objects)
        assert not listener._seats.taken

    whole = recorded(folder)
    return Target(take=take, seeds=(whole, whole[: len(whole) // 2]))


def recorded(folder: Path) -> bytes:
    """Return all that a real sender says to store a CT image and release."""
    taken = bytearray()
    settings = ListenerSettings(ae_title="OVERREAD", port=0, allow_any_caller=True)
    with Listener(settings, RememberingReception()) as listener, socket.create_server((HOST, 0)) as door:
        relay = threading.Thread(target=_relay, args=(door, listener.port, taken))
        relay.start()
        place = Destination(name="self", ae_title="OVERREAD", host=HOST, port=door.getsockname()[1])
        list(send(place, [ct_file(folder / "sent.dcm", size=8)], "TESTER"))
        relay.join()
    return bytes(taken)


def _relay(door: socket.socket, port: int, taken: bytearray) -> None:
    """Pass one connection on to `port`, keeping what the client says."""
    client, _ = door.accept()
    with client, socket.create_connection((HOST, port)) as server:
        back = threading.Thread(target=_pass_on, args=(server, client, bytearray()))
        back.start()
        _pass_on(client, server, taken)
        with suppress(OSError):
            server.shutdown(socket.SHUT_WR)
        back.join()


def _pass_on(source: socket.socket, target: socket.socket, taken: bytearray) -> None:
    with suppress(OSError):
        while some := source.recv(1 << 16):
            taken += some
            target.sendall(some)


def messages(_: Path) -> Target:
    """Return what takes command sets, commitment reports and availability notices."""

    def take(data: bytes) -> None:
        with suppress(RefusedError):
            respond(Command.parse(data), Status(code=SUCCESS))
        for decode in (decode_report, decode_notice):
            for syntax in SYNTAXES:
                with suppress(RefusedError):
                    decode(data, syntax)

    reference = Reference(
        study_instance_uid="1.2", series_instance_uid="1.3", sop_class_uid="1.4", sop_instance_uid="1.5"
    )
    asked = request_dataset("1.2.3", [reference, reference])
    asked.StudyInstanceUID, asked.FailedSOPSequence = "1.2", asked.ReferencedSOPSequence
    said = [encode(asked, implicit, True) or b"" for implicit in (True, False)]
    command = Command(
        field=1, message_id=1, sop_class_uid="1.2", sop_instance_uid="1.3", event_type=0, has_data_set=False
    )
    return Target(take=take, seeds=(*said, respond(command, Status(code=SUCCESS))))


def header(folder: Path) -> Target:
    """Return what takes an instance: its facts, how they lie in the ledger, and every decision on them.

    A quick look must say what pydicom says, where both say anything.
    """
    path, manifests = folder / "instance.dcm", [b.manifest for b in installed(bundled_models(), ())]

    def take(data: bytes) -> None:
        path.write_bytes(data)
        stored = Stored(digest="d", size=len(data), received_at=NOW, patient_salt=b"salt")
        try:
            instance = read_facts(path, stored, look(data[:HEAD_BYTES]))
        except RefusedError:
            return
        with suppress(RefusedError):
            assert instance == read_facts(path, stored)
        kept = json.loads(json.dumps(instance_json(instance), allow_nan=False))
        assert instance_of(kept) == instance
        some = [replace(instance, sop_instance_uid=f"1.2.{n}", instance_number=n) for n in range(20)]
        study = StudyFacts(study_instance_uid="1.2", instances=tuple(some), open_associations=0, conflicts=0)
        judge(study, NOW + timedelta(hours=1), Patience())
        choose(some, manifests)

    real = [p.read_bytes() for p in files(ROOT / "dicom") if p.stat().st_size < MOST_SEED] if ROOT.is_dir() else []
    return Target(take=take, seeds=(ct_file(folder / "ct.dcm", size=4).read_bytes(), *real))


def returned(folder: Path) -> Target:
    """Return what takes a SEG that came back: its claims, and its outline held against ours and against none."""
    layout = Layout(orientation=Orientation.OBLIQUE, spacing=COARSE, matrix=(31, 23))
    paths = make_brain_mri(StudyRequest(seed=3, spacing=COARSE, layout=layout), folder / "mri").series["FLAIR"]
    ours, path = folder / "ours.dcm", folder / "returned.dcm"
    ours.write_bytes(case(paths, mask=blobs(read_series(paths), 2)).contents[OutputKind.SEGMENTATION])

    def take(data: bytes) -> None:
        path.write_bytes(data)
        for ask in (lambda: claims(path), lambda: compare(path, None), lambda: compare(path, ours)):
            with suppress(RefusedError):
                ask()

    edited = io.BytesIO()
    corrected(ours, lower_half).save_as(edited)
    return Target(take=take, seeds=(ours.read_bytes(), edited.getvalue()))


TARGETS: dict[str, Callable[[Path], Target]] = {
    "association": association,
    "messages": messages,
    "header": header,
    "returned": returned,
}
