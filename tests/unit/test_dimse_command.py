"""Command sets and file heads, against pydicom's own reading."""

from contextlib import suppress
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode, encode

from daemon.dimse.command import Command, CommandField, respond
from daemon.dimse.part10 import head
from daemon.dimse.statuses import Status
from daemon.errors import RefusedError
from daemon.uids import is_uid

CT = "1.2.840.10008.5.1.4.1.1.2"


def encoded(**elements: object) -> bytes:
    """Return a command set as pydicom writes it."""
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    result = encode(dataset, is_implicit_vr=True, is_little_endian=True)
    assert result is not None
    return bytes(result)


def test_a_request_is_read_as_pydicom_wrote_it() -> None:
    """Field, message ID and UIDs of a C-STORE request come out as they went in."""
    command = Command.parse(
        encoded(
            AffectedSOPClassUID=CT,
            CommandField=1,
            MessageID=7,
            Priority=0,
            CommandDataSetType=1,
            AffectedSOPInstanceUID="1.2.3",
        )
    )
    assert command.field == CommandField.C_STORE
    assert (command.message_id, command.sop_class_uid, command.sop_instance_uid) == (7, CT, "1.2.3")
    assert command.has_data_set


@pytest.mark.parametrize("field", list(CommandField))
def test_a_response_is_read_by_pydicom(field: CommandField) -> None:
    """Responses have the response bit, the request's message ID and UIDs, no data set, the right group length."""
    command = Command(
        field=field, message_id=300, sop_class_uid=CT, sop_instance_uid="1.2.3", event_type=2, has_data_set=True
    )
    raw = respond(command, Status(code=0xA700, comment="Busy"))
    dataset = decode(BytesIO(raw), True, True)
    assert dataset.CommandGroupLength == len(raw) - 12
    assert dataset.CommandField == field | 0x8000
    assert (dataset.MessageIDBeingRespondedTo, dataset.Status, dataset.ErrorComment) == (300, 0xA700, "Busy")
    assert (dataset.AffectedSOPClassUID, dataset.AffectedSOPInstanceUID) == (CT, "1.2.3")
    assert dataset.CommandDataSetType == 0x0101
    assert ("EventTypeID" in dataset) is (field is CommandField.N_EVENT_REPORT)


@given(st.binary(max_size=200))
def test_noise_is_refused_and_nothing_else(noise: bytes) -> None:
    """Whatever arrives is either a command or a RefusedError."""
    with suppress(RefusedError):
        assert Command.parse(noise).message_id >= 0


@pytest.mark.parametrize(
    ("text", "valid"), [("1.2.3", True), ("1", True), ("", False), ("1..2", False), ("1.2/3", False), ("1" * 65, False)]
)
def test_a_uid_is_digits_and_dots(text: str, valid: bool) -> None:  # noqa: FBT001 - a column of the table
    """Nothing that could be a path passes for a UID."""
    assert is_uid(text) is valid


@pytest.mark.parametrize("uid", ["1.2.3", "1.2.34"])
def test_a_head_is_a_part_10_file(uid: str) -> None:
    """Pydicom reads the head as file meta information, for UIDs of odd and even length."""
    meta = dcmread(BytesIO(head(CT, uid, "1.2.840.10008.1.2.1"))).file_meta
    assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) == (CT, uid)
    assert meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert meta.FileMetaInformationGroupLength == len(head(CT, uid, "1.2.840.10008.1.2.1")) - 144
