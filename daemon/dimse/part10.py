"""The head of a Part 10 file: preamble, prefix and File Meta Information (PS3.10 7.1).

The same instance must give the same bytes whoever sends it and whichever release receives it, or a
duplicate would look like a conflict. So neither the calling AE title nor a release number is written.
"""

import struct

IMPLEMENTATION_CLASS_UID = "2.25.253397810848222956610983368677763661060"
IMPLEMENTATION_VERSION_NAME = "OVERREAD"

_LONG_VRS = frozenset({b"OB"})


def head(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Return the bytes that stand before the data set in a Part 10 file."""
    meta = b"".join(
        (
            _element(0x0001, b"OB", b"\0\1"),
            _element(0x0002, b"UI", _uid(sop_class_uid)),
            _element(0x0003, b"UI", _uid(sop_instance_uid)),
            _element(0x0010, b"UI", _uid(transfer_syntax_uid)),
            _element(0x0012, b"UI", _uid(IMPLEMENTATION_CLASS_UID)),
            _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME.encode("ascii")),
        )
    )
    return bytes(128) + b"DICM" + _element(0x0000, b"UL", struct.pack("<L", len(meta))) + meta


def _element(element: int, vr: bytes, value: bytes) -> bytes:
    if vr in _LONG_VRS:
        return struct.pack("<HH2sHL", 0x0002, element, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", 0x0002, element, vr, len(value)) + value


def _uid(uid: str) -> bytes:
    encoded = uid.encode("ascii")
    return encoded if len(encoded) % 2 == 0 else encoded + b"\0"
