"""DIMSE command sets (PS3.7 6.3.1): the few that a listener or a sender meets, read and written without pydicom.

A command set is Implicit VR Little Endian with group 0000 only. pydicom takes about a millisecond for a
request and its response, which is half of what a C-STORE of a CT slice may cost; this takes microseconds.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from daemon.dimse.statuses import COMMENT_LENGTH, Status
from daemon.errors import RefusedError
from daemon.uids import is_uid

_HEADER = struct.Struct("<HHL")
_SHORT = struct.Struct("<H")
_TAGS = struct.Struct("<HH")
_RESPONSE = 0x8000
_NO_DATA_SET = 0x0101

_SOP_CLASS, _REQUESTED_SOP_CLASS = 0x0002, 0x0003
_FIELD, _MESSAGE, _RESPONDED_TO, _DATA_SET = 0x0100, 0x0110, 0x0120, 0x0800
_PRIORITY, _OFFENDING = 0x0700, 0x0901
_STATUS, _COMMENT, _INSTANCE, _REQUESTED_INSTANCE, _EVENT = 0x0900, 0x0902, 0x1000, 0x1001, 0x1002


class CommandField(IntEnum):
    """Command Field (0000,0100) of the requests that are served (PS3.7 E.1)."""

    C_STORE = 0x0001
    C_ECHO = 0x0030
    C_CANCEL = 0x0FFF
    N_EVENT_REPORT = 0x0100
    N_CREATE = 0x0140


@dataclass(frozen=True, kw_only=True)
class Command:
    """A request as its command set says it; an absent UID is empty."""

    field: int
    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    event_type: int
    has_data_set: bool

    @classmethod
    def parse(cls, encoded: bytes) -> Self:
        """Read an encoded command set.

        Raises:
            RefusedError: it is truncated, strays out of group 0000 or lacks a mandatory element.
        """
        elements = _elements(encoded)
        try:
            return cls(
                field=_short(elements[_FIELD]),
                message_id=_short(elements.get(_MESSAGE, b"\0\0")),
                sop_class_uid=_uid(elements.get(_SOP_CLASS) or elements.get(_REQUESTED_SOP_CLASS, b"")),
                sop_instance_uid=_uid(elements.get(_INSTANCE) or elements.get(_REQUESTED_INSTANCE, b"")),
                event_type=_short(elements.get(_EVENT, b"\0\0")),
                has_data_set=_short(elements[_DATA_SET]) != _NO_DATA_SET,
            )
        except (KeyError, struct.error, UnicodeDecodeError) as error:
            raise RefusedError("command set: a mandatory element is absent or malformed (PS3.7 E.1)") from error


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a C-STORE response says: its status and the tags of Offending Element (0000,0901)."""

    status: int
    offending: tuple[int, ...]

    @classmethod
    def parse(cls, encoded: bytes) -> Self:
        """Read an encoded command set.

        Raises:
            RefusedError: it is malformed, or no C-STORE response.
        """
        elements = _elements(encoded)
        try:
            if _short(elements[_FIELD]) != CommandField.C_STORE | _RESPONSE:
                raise RefusedError("command set: not the response to a C-STORE")
            tags = _TAGS.iter_unpack(elements.get(_OFFENDING, b""))
            return cls(status=_short(elements[_STATUS]), offending=tuple(group << 16 | tag for group, tag in tags))
        except (KeyError, struct.error) as error:
            raise RefusedError("command set: a mandatory element is absent or malformed (PS3.7 E.1)") from error


def store_request(sop_class_uid: str, sop_instance_uid: str, message_id: int) -> bytes:
    """Return the encoded request to store an instance, of medium priority (PS3.7 9.3.1.1)."""
    return _encoded(
        [
            (_SOP_CLASS, _even(sop_class_uid.encode("ascii"), b"\0")),
            (_FIELD, _SHORT.pack(CommandField.C_STORE)),
            (_MESSAGE, _SHORT.pack(message_id)),
            (_PRIORITY, _SHORT.pack(0)),
            (_DATA_SET, _SHORT.pack(_NO_DATA_SET - 1)),
            (_INSTANCE, _even(sop_instance_uid.encode("ascii"), b"\0")),
        ]
    )


def respond(command: Command, status: Status) -> bytes:
    """Return the encoded response to `command`: no data set, UIDs and event type echoed (PS3.7 9.3, 10.3).

    What is no UID is not echoed: some peers choke on their own.
    """
    elements = [
        (_SOP_CLASS, _even(command.sop_class_uid.encode("ascii"), b"\0")),
        (_FIELD, _SHORT.pack(command.field | _RESPONSE)),
        (_RESPONDED_TO, _SHORT.pack(command.message_id)),
        (_DATA_SET, _SHORT.pack(_NO_DATA_SET)),
        (_STATUS, _SHORT.pack(status.code)),
    ]
    if status.comment:
        elements.append((_COMMENT, _even(status.comment[:COMMENT_LENGTH].encode("ascii", "replace"), b" ")))
    if is_uid(command.sop_instance_uid):
        elements.append((_INSTANCE, _even(command.sop_instance_uid.encode("ascii"), b"\0")))
    if command.field == CommandField.N_EVENT_REPORT:
        elements.append((_EVENT, _SHORT.pack(command.event_type)))
    return _encoded(elements)


def _encoded(elements: Sequence[tuple[int, bytes]]) -> bytes:
    body = b"".join(_HEADER.pack(0, element, len(value)) + value for element, value in elements)
    return _HEADER.pack(0, 0, 4) + struct.pack("<L", len(body)) + body


def _elements(encoded: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    offset = 0
    while offset < len(encoded):
        if offset + _HEADER.size > len(encoded):
            raise RefusedError("command set: truncated inside an element header; the peer must resend")
        group, element, length = _HEADER.unpack_from(encoded, offset)
        offset += _HEADER.size
        if group != 0 or offset + length > len(encoded):
            raise RefusedError("command set: not Implicit VR Little Endian of group 0000 (PS3.7 6.3.1)")
        found[element] = encoded[offset : offset + length]
        offset += length
    return found


def _short(value: bytes) -> int:
    return int(_SHORT.unpack(value)[0])


def _uid(value: bytes) -> str:
    return value.decode("ascii").rstrip("\0 ")


def _even(value: bytes, pad: bytes) -> bytes:
    return value if len(value) % 2 == 0 else value + pad
