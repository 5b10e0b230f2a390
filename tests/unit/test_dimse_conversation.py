"""A conversation without a network: fragments in, answers out."""

import struct
from io import BytesIO

import pytest
from pynetdicom.dsutils import decode

from daemon.dimse.contexts import STORAGE_COMMITMENT, VERIFICATION
from daemon.dimse.conversation import Accepted, Conversation, Parties
from daemon.errors import RefusedError
from tests.dicom_files import CT
from tests.receptions import RememberingReception

COMMAND, DATA, LAST = 0x01, 0x00, 0x02
CONTEXTS = {
    1: Accepted(sop_class_uid=VERIFICATION, transfer_syntax_uid="1.2.840.10008.1.2"),
    3: Accepted(sop_class_uid=CT, transfer_syntax_uid="1.2.840.10008.1.2.1"),
    5: Accepted(sop_class_uid=STORAGE_COMMITMENT, transfer_syntax_uid="1.2.840.10008.1.2"),
}


def command(field: int, sop_class: str, uid: str = "", *, data_set: bool = True) -> bytes:
    """Return a command set."""
    values = {
        0x0002: sop_class.encode(),
        0x0100: struct.pack("<H", field),
        0x0110: struct.pack("<H", 5),
        0x0800: struct.pack("<H", 1 if data_set else 0x0101),
        0x1000: uid.encode(),
    }
    padded = {element: value + b"\0" * (len(value) % 2) for element, value in values.items()}
    return b"".join(struct.pack("<HHL", 0, element, len(value)) + value for element, value in padded.items())


def conversation(reception: RememberingReception) -> Conversation:
    """Return a conversation with a scanner, with no one to hear commitment reports."""
    parties = Parties(association="a1", calling_ae="SCANNER", called_ae="OVERREAD")
    return Conversation(parties, CONTEXTS, reception)


def status(answer: bytes | None) -> int:
    """Return the status of a response."""
    assert answer is not None
    return int(decode(BytesIO(answer), True, True).Status)


def test_fragments_of_any_size_make_one_object() -> None:
    """Command and data set may come cut anywhere; what is written is the head and then every byte."""
    reception = RememberingReception()
    talk = conversation(reception)
    request, body = command(1, CT, "1.2.3"), bytes(range(256)) * 4
    for offset in range(len(request) - 1):
        assert talk.take(3, COMMAND, memoryview(request[offset : offset + 1])) is None
    talk.take(3, COMMAND | LAST, memoryview(request[-1:]))
    for offset in range(0, len(body), 100):
        assert talk.take(3, DATA, memoryview(body[offset : offset + 100])) is None
        assert not talk.idle
    assert status(talk.take(3, DATA | LAST, memoryview(b""))) == 0
    assert talk.idle
    (incoming,) = reception.objects
    assert incoming.content[128:132] == b"DICM"
    assert incoming.content.endswith(body)
    assert (incoming.announced.calling_ae, incoming.announced.association) == ("SCANNER", "a1")


def test_an_echo_is_answered_with_success() -> None:
    """C-ECHO has no data set and is answered at once."""
    talk = conversation(RememberingReception())
    assert status(talk.take(1, COMMAND | LAST, memoryview(command(0x30, VERIFICATION, data_set=False)))) == 0


@pytest.mark.parametrize(
    ("context_id", "field", "sop_class", "expected"),
    [(3, 1, "1.2.840.10008.5.1.4.1.1.4", 0x0122), (3, 0x20, CT, 0x0211), (5, 0x100, STORAGE_COMMITMENT, 0x0211)],
)
def test_what_is_not_served_is_told_after_its_data_set(
    context_id: int, field: int, sop_class: str, expected: int
) -> None:
    """Another class, another operation, or a report that no one wants: the data set runs out, then the status."""
    reception = RememberingReception()
    talk = conversation(reception)
    assert talk.take(context_id, COMMAND | LAST, memoryview(command(field, sop_class, "1.2.3"))) is None
    assert talk.take(context_id, DATA, memoryview(bytes(10))) is None
    assert status(talk.take(context_id, DATA | LAST, memoryview(bytes(10)))) == expected
    assert reception.objects == []


def test_a_cancel_is_not_answered() -> None:
    """C-CANCEL has no response (PS3.7 9.3.2.3)."""
    talk = conversation(RememberingReception())
    assert talk.take(3, COMMAND | LAST, memoryview(command(0x0FFF, "", data_set=False))) is None
    assert talk.idle


def test_a_broken_order_of_fragments_is_refused() -> None:
    """A command inside a data set, data for another context, data for no command: the protocol is broken."""
    talk = conversation(RememberingReception())
    with pytest.raises(RefusedError):
        talk.take(3, DATA, memoryview(b"x"))
    talk.take(3, COMMAND | LAST, memoryview(command(1, CT, "1.2.3")))
    with pytest.raises(RefusedError):
        talk.take(3, COMMAND | LAST, memoryview(command(1, CT, "1.2.3")))
    with pytest.raises(RefusedError):
        talk.take(1, DATA, memoryview(b"x"))


def test_an_endless_command_set_is_refused() -> None:
    """A command set that never ends does not fill the memory."""
    talk = conversation(RememberingReception())
    for _ in range(65):
        talk.take(3, COMMAND, memoryview(bytes(1000)))
    with pytest.raises(RefusedError):
        talk.take(3, COMMAND, memoryview(bytes(1000)))
