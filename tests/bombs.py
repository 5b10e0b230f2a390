"""Small files that grow: compressed frames that claim to be giant, runs of zeros, deflated nothing."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from tests.dicom_files import ct_file, data_set, opaque_file

SIDE = 32
GIANT = 30_000  # rows and columns; as 16 bits 1.8 GB


def slices(folder: Path, syntax: str = "", size: int = SIDE) -> list[Path]:
    """Write four slices of a CT, in `syntax` or uncompressed."""
    folder.mkdir(parents=True, exist_ok=True)
    return [_slice(folder / f"{number}.dcm", number, syntax, size) for number in range(4)]


def _slice(path: Path, number: int, syntax: str, size: int) -> Path:
    dataset = dcmread(ct_file(path, f"1.2.826.0.1.3680043.8.498.10.{number}", size))
    dataset.ImagePositionPatient = [0, 0, 3 * number]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = [1, 1]
    dataset.BitsStored, dataset.HighBit = 12, 11
    dataset.PixelData = np.arange(size * size, dtype="<u2").tobytes()
    if syntax == DeflatedExplicitVRLittleEndian:
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    elif syntax:
        dataset.compress(syntax, generate_instance_uid=False)
    dataset.save_as(path, enforce_file_format=True)
    return path


def _reframed(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Change the one compressed frame of a file."""
    dataset = dcmread(path)
    begin = dataset.PixelData.index(b"\xfe\xff\x00\xe0", 8) + 8
    dataset.PixelData = encapsulate([change(dataset.PixelData[begin:])])
    dataset.save_as(path)


def _giant_2000(frame: bytes) -> bytes:
    """Change the size of the image and of its one tile (SIZ, ISO 15444-1 A.5.1)."""
    at = frame.index(b"\xff\x51") + 6
    sizes = struct.pack(">LLLLLL", GIANT, GIANT, 0, 0, GIANT, GIANT)
    return frame[:at] + sizes + frame[at + len(sizes) :]


def _giant_ls(frame: bytes) -> bytes:
    """Change the size in the frame header (SOF55, ISO 14495-1 C.2.2)."""
    at = frame.index(b"\xff\xf7") + 5
    return frame[:at] + struct.pack(">HH", GIANT, GIANT) + frame[at + 4 :]


def _giant_runs(frame: bytes) -> bytes:
    """Put 12 MB of runs of 128 zeros into the first segment: 768 MB (PS3.5 G.3)."""
    del frame
    segment = b"\x81\x00" * 6_000_000
    return struct.pack("<16L", 2, 64, 64 + len(segment), *[0] * 13) + segment + b"\x81\x00" * 8


def giant_2000(path: Path) -> None:
    """A JPEG 2000 frame that claims to be giant."""
    _reframed(path, _giant_2000)


def giant_ls(path: Path) -> None:
    """A JPEG-LS frame that claims to be giant."""
    _reframed(path, _giant_ls)


def giant_runs(path: Path) -> None:
    """An RLE frame that holds more than any frame of its size could."""
    _reframed(path, _giant_runs)


def deflated(path: Path, megabytes: int) -> Path:
    """Write a deflated file whose pixel data are so many megabytes of zeros."""
    whole = ct_file(path, size=SIDE)
    head = data_set(whole)[: -2 * SIDE * SIDE - 4]
    engine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = engine.compress(head + struct.pack("<L", megabytes << 20))
    body += b"".join(engine.compress(bytes(1 << 20)) for _ in range(megabytes)) + engine.flush()
    return opaque_file(path, DeflatedExplicitVRLittleEndian, body, "1.2.826.0.1.3680043.8.498.3")


FRAMES: dict[str, tuple[UID, Callable[[Path], None]]] = {
    "JPEG 2000": (JPEG2000Lossless, giant_2000),
    "JPEG-LS": (JPEGLSLossless, giant_ls),
    "RLE": (RLELossless, giant_runs),
}
