"""A quick look at a header: a few plain values out of the first bytes of a Part 10 file.

pydicom takes a millisecond for the header of a CT slice, more than its flush to disk. Most headers need nothing that
pydicom knows better: little endian, ASCII, known places. This reads those and gives up on everything else, so that
whoever calls it asks pydicom then. It never answers differently from pydicom where that reads the file; sequences of
known length it passes over, and does not see what is broken within.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from typing import Any, Protocol

from pydicom.uid import UID

_PREFIX = 132
_META = b"\x02\x00"  # group 0002, little endian
_TRANSFER_SYNTAX = 0x0002_0010
_PIXELS = 0x7FE0_0000
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFE_E000, 0xFFFE_E00D, 0xFFFE_E0DD
_ITEM_GROUP = 0xFFFE
_UNDEFINED = 0xFFFF_FFFF
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_SHORT = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS"}
    | {b"ST", b"TM", b"UI", b"UL", b"US"}
)
_EXPLICIT = struct.Struct("<HH2sH")
_LENGTH = struct.Struct("<L")
_DEEPEST = 16


class Header(Protocol):
    """What facts are read from: pydicom's data set, or a quick look."""

    def get(self, key: str, default: object = None, /) -> Any:  # noqa: ANN401 - a DICOM value has many types
        """Return the value of a keyword, or `default`."""
        ...


class _UnclearError(Exception):
    """Something that pydicom knows better."""


class Kind(Enum):
    """How a value is read."""

    TEXT = auto()
    TEXTS = auto()
    WHOLE = auto()
    SHORT = auto()


@dataclass(frozen=True, kw_only=True)
class Element:
    """A wanted attribute: its keyword, and whether it is text, texts, a whole number in text, or a US."""

    keyword: str
    kind: Kind = Kind.TEXT


@dataclass(frozen=True, kw_only=True)
class QuickHeader:
    """Values by keyword as pydicom would print them: texts, lists of texts, whole numbers.

    The data set begins at `offset`, in bytes.
    """

    transfer_syntax_uid: str
    offset: int
    values: Mapping[str, object]

    def get(self, key: str, default: object = None, /) -> object:
        """Return the value of a keyword, or `default`."""
        return self.values.get(key, default)


def glance(content: bytes, wanted: Mapping[int, Element]) -> QuickHeader | None:
    """Return the `wanted` attributes (by tag) that stand before the pixels, or None where pydicom must be asked.

    Those of the File Meta Information are found too.

    Args:
        content: the first bytes of a Part 10 file; all that is wanted, and one element more, must lie in them.
        wanted: tag -> what to read.
    """
    try:
        return _Reader(content).read(wanted)
    except (_UnclearError, struct.error, UnicodeDecodeError):
        return None


class _Reader:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._implicit = False

    def read(self, wanted: Mapping[int, Element]) -> QuickHeader:
        if self._content[_PREFIX - 4 : _PREFIX] != b"DICM":
            raise _UnclearError
        values: dict[str, object] = {}
        begin, syntax = self._meta(_PREFIX, wanted, values)
        self._implicit = _is_implicit(syntax)
        content, size, offset = self._content, len(self._content), begin
        last, furthest = -1, min(max(wanted), _PIXELS)
        while True:
            tag, start, length = self._element(offset)
            if tag > furthest:
                return QuickHeader(transfer_syntax_uid=syntax, offset=begin, values=values)
            offset = start + length if length != _UNDEFINED else self._sequence_end(start, 0)
            if tag <= last or offset > size:
                raise _UnclearError
            last = tag
            if tag in wanted:
                element = wanted[tag]
                values[element.keyword] = _value(content[start:offset], element.kind)

    def _meta(self, offset: int, wanted: Mapping[int, Element], values: dict[str, object]) -> tuple[int, str]:
        """Return where the data set starts and its transfer syntax; add what is wanted to `values`."""
        syntax = ""
        while self._content[offset : offset + 2] == _META:
            tag, start, length = self._element(offset)
            offset = self._end(start, length, 0)
            if tag == _TRANSFER_SYNTAX:
                syntax = self._content[start:offset].decode("ascii").rstrip("\0 ")
            elif tag in wanted:
                values[wanted[tag].keyword] = _value(self._content[start:offset], wanted[tag].kind)
        return offset, syntax

    def _element(self, offset: int) -> tuple[int, int, int]:
        """Return tag, start of the value and its length, in bytes."""
        group, element, vr, short = _EXPLICIT.unpack_from(self._content, offset)
        tag = group << 16 | element
        if self._implicit or group == _ITEM_GROUP:
            return tag, offset + 8, _LENGTH.unpack_from(self._content, offset + 4)[0]
        if vr in _SHORT:
            return tag, offset + 8, short
        if vr not in _LONG:
            raise _UnclearError
        (length,) = _LENGTH.unpack_from(self._content, offset + 8)
        if vr == b"UN" and length == _UNDEFINED:
            raise _UnclearError
        return tag, offset + 12, length

    def _end(self, start: int, length: int, depth: int) -> int:
        end = self._sequence_end(start, depth) if length == _UNDEFINED else start + length
        if end > len(self._content):
            raise _UnclearError
        return end

    def _sequence_end(self, offset: int, depth: int) -> int:
        if depth > _DEEPEST:
            raise _UnclearError
        while True:
            tag, start, length = self._element(offset)
            if tag == _SEQUENCE_END:
                return start
            if tag != _ITEM:
                raise _UnclearError
            offset = self._item_end(start, depth) if length == _UNDEFINED else start + length

    def _item_end(self, offset: int, depth: int) -> int:
        while True:
            tag, start, length = self._element(offset)
            if tag == _ITEM_END:
                return start
            offset = self._end(start, length, depth + 1)


@lru_cache(64)
def _is_implicit(syntax: str) -> bool:
    """Return whether a transfer syntax has no VRs, where it is little endian and not deflated."""
    uid = UID(syntax)
    if not uid.is_transfer_syntax or uid.is_deflated or not uid.is_little_endian:
        raise _UnclearError
    return uid.is_implicit_VR


def _value(raw: bytes, kind: Kind) -> object:
    if kind is Kind.SHORT:
        if len(raw) != 2:  # noqa: PLR2004 - one US
            raise _UnclearError
        return int.from_bytes(raw, "little")
    text = raw.decode("ascii").rstrip("\0 ")
    if "\x1b" in text or "\0" in text or ("\\" in text and kind is not Kind.TEXTS):
        raise _UnclearError
    if kind is Kind.WHOLE and text and not text.strip().lstrip("+-").isdigit():
        raise _UnclearError
    return text.split("\\") if "\\" in text else text
