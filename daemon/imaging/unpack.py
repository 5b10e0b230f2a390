"""Bounds on what a small file may grow to: deflated data sets, and compressed frames that claim to be giant.

A decoder takes as much memory as a frame's own header asks for, whatever the data set says, and some never come back.
So the frame is asked first.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmread
from pydicom.encaps import generate_frames
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_file_meta_info
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless

# Octets that a header may have; real ones have some 10 KB, those of many frames a few MB.
MOST_HEADER = 32 << 20
MOST_FRAME = 1 << 26  # pixels: 8192 x 8192
MOST_VOXELS = 1 << 30  # of a series: 1024 slices of 1024 x 1024, 4 GB in memory
_CHUNK = 1 << 16
_META = 132 + 12  # preamble, prefix and the group's length come first (PS3.10 7.1)
_PIXEL_DATA_HEAD = 12  # tag, VR, reserved, length
# JPEG 2000: the first two markers; what follows of SIZ (ISO 15444-1 A.5.1); the box that brings a JP2 file (I.5.1).
_CODESTREAM, _SIZ = b"\xff\x4f\xff\x51", struct.Struct(">HHLLLL16xH")
_JP2, _JP2_CODESTREAM = b"\x00\x00\x00\x0cjP  ", b"jp2c"
# JPEG and JPEG-LS: the first marker; frame headers SOF0..SOF15 and SOF55; markers without a segment (ISO 10918-1 B.1).
_JPEG, _MARK, _SOF = b"\xff\xd8", 0xFF, struct.Struct(">BHHB")
_FRAME_HEADERS = frozenset({0xF7, *range(0xC0, 0xD0)}) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})


def opened(path: Path, most: int) -> tuple[Path | BinaryIO, UID]:
    """Return what pydicom is to read, and the transfer syntax of the file.

    That is the file itself, or where it is deflated (PS3.5 A.5), the first `most` octets of its data set, inflated.

    Raises:
        Exception: whatever pydicom and zlib raise of what is no DICOM file.
    """
    meta = read_file_meta_info(path)
    syntax = UID(meta.TransferSyntaxUID)
    if syntax != DeflatedExplicitVRLittleEndian:
        return path, syntax
    begin = _META + int(meta.FileMetaInformationGroupLength)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    head = DicomBytesIO()
    write_file_meta_info(head, meta, enforce_standard=False)
    source = io.BytesIO(bytes(128) + b"DICM" + head.getvalue())
    source.seek(0, io.SEEK_END)
    source.writelines(_inflated(path, begin, most))
    source.seek(0)
    return source, syntax


def _inflated(path: Path, begin: int, most: int) -> Iterator[bytes]:
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    with path.open("rb") as file:
        file.seek(begin)
        while most > 0 and not engine.eof:
            content = engine.unconsumed_tail or file.read(_CHUNK)
            piece = engine.decompress(content, min(most, _CHUNK * 16))
            if not content and not piece:
                return
            most -= len(piece)
            yield piece


def check_frames(path: Path, count: int, size: tuple[int, int, int]) -> None:
    """Look at every compressed frame of a file before it is decoded; `size` is rows, columns and octets of a pixel.

    Raises:
        ValueError: one claims another size, or is longer than a frame of that size can be.
    """
    rows, columns, octets = size
    whole = 64 + 2 * rows * columns * octets  # no encoder needs more than 2 octets for 1 (PS3.5 G.3)
    with path.open("rb") as file:
        header = dcmread(
            file, stop_before_pixels=True, specific_tags=["ExtendedOffsetTable", "ExtendedOffsetTableLengths"]
        )
        file.seek(_PIXEL_DATA_HEAD, io.SEEK_CUR)
        tables = (header.get("ExtendedOffsetTable"), header.get("ExtendedOffsetTableLengths"))
        offsets = tables if all(tables) else None
        for frame in generate_frames(file, number_of_frames=count, extended_offsets=offsets):
            if header.file_meta.TransferSyntaxUID == RLELossless:
                if len(frame) > whole:
                    raise ValueError(f"a run-length encoded frame of {rows} x {columns} has {len(frame)} octets")
            elif claimed(frame) != (rows, columns, 1):
                raise ValueError(f"a frame of {rows} x {columns} x 1 claims to be {claimed(frame)}")


def claimed(frame: bytes) -> tuple[int, int, int] | None:
    """Return rows, columns and components that a JPEG, JPEG-LS or JPEG 2000 frame claims; None where it claims none."""
    if frame.startswith(_JPEG):
        return _claimed_by_jpeg(frame)
    start = _codestream(frame) if frame.startswith(_JP2) else 0
    if not frame.startswith(_CODESTREAM, start) or len(frame) < start + 4 + _SIZ.size:
        return None
    _, _, right, bottom, left, top, components = _SIZ.unpack_from(frame, start + 4)
    return bottom - top, right - left, components


def _codestream(frame: bytes) -> int:
    """Return where the codestream of a JP2 file begins, or the file's end where it has none."""
    at = 0
    while at + 8 <= len(frame):
        length, kind, head = int.from_bytes(frame[at : at + 4]), frame[at + 4 : at + 8], 8
        if length == 1:
            length, head = int.from_bytes(frame[at + 8 : at + 16]), 16
        if kind == _JP2_CODESTREAM:
            return at + head
        if length < head:
            break
        at += length
    return len(frame)


def _claimed_by_jpeg(frame: bytes) -> tuple[int, int, int] | None:
    at = len(_JPEG)
    while at + 4 + _SOF.size <= len(frame) and frame[at] == _MARK:
        marker = frame[at + 1]
        if marker in _FRAME_HEADERS:
            _, rows, columns, components = _SOF.unpack_from(frame, at + 4)
            return rows, columns, components
        if marker == _MARK:  # a fill octet
            at += 1
        elif marker in _ALONE:
            at += 2
        else:
            at += 2 + int.from_bytes(frame[at + 2 : at + 4])
    return None
