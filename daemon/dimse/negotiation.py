"""A-ASSOCIATE as a sender says and hears it (PS3.8 9.3.2, 9.3.3): one transfer syntax in each presentation context."""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from daemon.dimse.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from daemon.dimse.pdu import A_ASSOCIATE_RQ, PDU_HEADER
from daemon.errors import RefusedError

_APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
_ITEM = struct.Struct(">BxH")
_LENGTH = struct.Struct(">L")
# Protocol version, called and calling AE title: what stands before the items; 32 octets are reserved (Table 9-11).
_FIXED = struct.Struct(">Hxx16s16s32x")
_PROTOCOL_VERSION = 1
_APPLICATION, _PROPOSED, _ANSWERED, _ABSTRACT, _TRANSFER, _USER = 0x10, 0x20, 0x21, 0x30, 0x40, 0x50
_MAXIMUM_LENGTH, _CLASS_UID, _VERSION_NAME = 0x51, 0x52, 0x55
_CONTEXT_HEADER = 4  # ID, reserved, result, reserved

Proposed = Sequence[tuple[str, str]]


def proposal(called_ae: str, calling_ae: str, proposed: Proposed, max_pdu: int) -> bytes:
    """Return the A-ASSOCIATE-RQ that proposes pairs of SOP class and transfer syntax UID, numbered 1, 3, 5...

    `max_pdu` is the longest PDU that may come back, in bytes.
    """
    contexts = b"".join(
        _item(
            _PROPOSED,
            bytes((context_id, 0, 0, 0)) + _item(_ABSTRACT, sop_class.encode()) + _item(_TRANSFER, syntax.encode()),
        )
        for context_id, (sop_class, syntax) in _numbered(proposed)
    )
    user = (
        _item(_MAXIMUM_LENGTH, _LENGTH.pack(max_pdu))
        + _item(_CLASS_UID, IMPLEMENTATION_CLASS_UID.encode())
        + _item(_VERSION_NAME, IMPLEMENTATION_VERSION_NAME.encode())
    )
    titles = (title.encode("ascii").ljust(16) for title in (called_ae, calling_ae))
    body = _FIXED.pack(_PROTOCOL_VERSION, *titles) + _item(_APPLICATION, _APPLICATION_CONTEXT)
    body += contexts + _item(_USER, user)
    return PDU_HEADER.pack(A_ASSOCIATE_RQ, len(body)) + body


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """What a peer accepted: context IDs by SOP class and transfer syntax UID, and PDUs of `longest` bytes, 0 for any.

    Of what it `rejected`, the SOP class UID and why (PS3.8 Table 9-18).
    """

    contexts: Mapping[tuple[str, str], int]
    rejected: Sequence[tuple[str, int]]
    longest: int

    @classmethod
    def parse(cls, body: bytes, proposed: Proposed) -> Self:
        """Read an A-ASSOCIATE-AC, without its first six bytes, that answers what was `proposed`.

        Raises:
            RefusedError: it is malformed.
        """
        contexts: dict[tuple[str, str], int] = {}
        rejected: list[tuple[str, int]] = []
        asked, longest = dict(_numbered(proposed)), 0
        try:
            for kind, value in _items(body[_FIXED.size :]):
                if kind == _ANSWERED and value[0] in asked:
                    sop_class = asked[value[0]][0]
                    syntaxes = [uid for item, uid in _items(value[_CONTEXT_HEADER:]) if item == _TRANSFER]
                    if value[2]:
                        rejected.append((sop_class, value[2]))
                    else:
                        contexts[sop_class, syntaxes[0].decode("ascii").rstrip("\0 ")] = value[0]
                elif kind == _USER:
                    lengths = [told for item, told in _items(value) if item == _MAXIMUM_LENGTH]
                    longest = _LENGTH.unpack(lengths[0])[0] if lengths else 0
        except (struct.error, IndexError, UnicodeDecodeError) as error:
            raise RefusedError("A-ASSOCIATE-AC: malformed (PS3.8 9.3.3)") from error
        return cls(contexts=contexts, rejected=rejected, longest=longest)


def _numbered(proposed: Proposed) -> Iterator[tuple[int, tuple[str, str]]]:
    return ((2 * number + 1, pair) for number, pair in enumerate(proposed))


def _item(kind: int, value: bytes) -> bytes:
    return _ITEM.pack(kind, len(value)) + value


def _items(encoded: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset < len(encoded):
        kind, length = _ITEM.unpack_from(encoded, offset)
        offset += _ITEM.size + length
        if offset > len(encoded):
            raise IndexError
        yield kind, encoded[offset - length : offset]
