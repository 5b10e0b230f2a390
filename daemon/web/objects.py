"""Objects in the spool as DICOMweb gives them: headers, frames, pictures; paths are made of the ledger's digests."""

import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import HTTPException
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from daemon.errors import UnprocessableError
from daemon.imaging.read import decoded, read_header
from daemon.imaging.unpack import MOST_FRAME
from daemon.ledger.holdings import Holding
from daemon.spool.store import Spool

_PLAIN = frozenset({ExplicitVRLittleEndian, ImplicitVRLittleEndian})
# Elements that hold pixels, by their width in bits (PS3.3 C.7.6.3, C.7.6.24).
_PIXELS = {0x7FE00010: 0, 0x7FE00008: 32, 0x7FE00009: 64}
_GONE = "It is not in the spool any longer."


def header_of(spool: Spool, holding: Holding) -> Dataset:
    """Return an object without its pixels.

    Raises:
        HTTPException: its file is gone (404), or cannot be read (422).
    """
    try:
        return read_header(spool.path(holding.digest))
    except FileNotFoundError as error:
        raise HTTPException(404, _GONE) from error
    except UnprocessableError as error:
        if not spool.path(holding.digest).exists():
            raise HTTPException(404, _GONE) from error
        raise HTTPException(422, "The object cannot be read.") from error


def document(header: Dataset) -> dict[str, Any]:
    """Return a header as DICOM JSON (PS3.18 F.2), in UTF-8; what cannot be said in JSON is left out."""
    header.decode()
    if "SpecificCharacterSet" in header:
        header.SpecificCharacterSet = "ISO_IR 192"
    found: dict[str, Any] = header.to_json_dict(suppress_invalid_tags=True)
    try:
        json.dumps(found, allow_nan=False)
    except ValueError:
        return {tag: element for tag, element in found.items() if _finite(element)}
    return found


def frame_of(spool: Spool, holding: Holding, number: int) -> bytes:
    """Return frame `number`, counted from 1, as little endian pixels without padding.

    Raises:
        HTTPException: there is no such frame (404), or it cannot be given as bytes of its own (406, 422).
    """
    return _frame(spool, holding, header_of(spool, holding), number)


def picture_of(spool: Spool, holding: Holding, number: int) -> Image.Image:
    """Return frame `number` as a screen shows it, by the object's own window.

    Raises:
        HTTPException: as for `frame_of`.
    """
    header = header_of(spool, holding)
    content = _frame(spool, holding, header, number)
    rows, columns, samples = int(header.Rows), int(header.Columns), int(header.get("SamplesPerPixel") or 1)
    bits = int(header.get("BitsAllocated") or 8)
    if samples == 3:  # noqa: PLR2004 - red, green, blue
        if header.PhotometricInterpretation != "RGB" or int(header.get("PlanarConfiguration") or 0):
            raise HTTPException(406, "These colours are not drawn here; ask for the object itself.")
        return Image.frombytes("RGB", (columns, rows), content)
    if bits == 1:
        plane = np.unpackbits(np.frombuffer(content, dtype=np.uint8), bitorder="little")[: rows * columns] * 255
        return Image.fromarray(plane.reshape(rows, columns).astype(np.uint8))
    return Image.fromarray(_shown(header, _numbers(header, content).reshape(rows, columns)))


def png(picture: Image.Image) -> bytes:
    """Return a picture as PNG."""
    made = io.BytesIO()
    picture.save(made, "PNG", compress_level=1)
    return made.getvalue()


def jpeg(picture: Image.Image) -> bytes:
    """Return a picture as JPEG."""
    made = io.BytesIO()
    picture.save(made, "JPEG", quality=90)
    return made.getvalue()


def _frame(spool: Spool, holding: Holding, header: Dataset, number: int) -> bytes:
    frames = int(header.get("NumberOfFrames") or 1)
    if "Rows" not in header:
        raise HTTPException(404, "The object has no frames.")
    if not 1 <= number <= frames:
        raise HTTPException(404, f"The object has frames 1 to {frames}.")
    if int(header.Rows) * int(header.Columns) > MOST_FRAME:
        raise HTTPException(422, "The frame is larger than is read here.")
    path = spool.path(holding.digest)
    # By the ledger: the header of a deflated file is one of what it was inflated to.
    if holding.transfer_syntax_uid in _PLAIN:
        return _cut(path, header, number)
    try:
        (pixels,) = decoded(path, [number - 1], header)
    except UnprocessableError as error:
        raise HTTPException(422, "The frame cannot be decoded.") from error
    return pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes()


def _cut(path: Path, header: Dataset, number: int) -> bytes:
    """Return a frame's bytes as they stand in a file that is not compressed."""
    with path.open("rb") as file:
        dcmread(file, stop_before_pixels=True, specific_tags=["Rows"])
        head = file.read(12)
        tag = int.from_bytes(head[:2], "little") << 16 | int.from_bytes(head[2:4], "little")
        if tag not in _PIXELS:
            raise HTTPException(404, "The object has no frames.")
        explicit = header.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        start = file.tell() if explicit else file.tell() - 4
        pixels = int(header.Rows) * int(header.Columns) * int(header.get("SamplesPerPixel") or 1)
        bits = pixels * (_PIXELS[tag] or int(header.BitsAllocated))
        if bits % 8:
            raise HTTPException(406, "The object's frames share bytes; ask for the object itself.")
        file.seek(start + (number - 1) * bits // 8)
        content = file.read(bits // 8)
    if len(content) < bits // 8:
        raise HTTPException(422, "The object is shorter than its header says.")
    return content


def _numbers(header: Dataset, content: bytes) -> NDArray[Any]:
    bits = int(header.BitsAllocated)
    if bits in {32, 64} and "PixelRepresentation" not in header:
        return np.frombuffer(content, dtype=f"<f{bits // 8}")
    if bits not in {8, 16, 32}:
        raise HTTPException(406, f"Pixels of {bits} bits are not drawn here; ask for the object itself.")
    sign = "i" if int(header.get("PixelRepresentation") or 0) else "u"
    return np.frombuffer(content, dtype=f"<{sign}{bits // 8}")


def _shown(header: Dataset, pixels: NDArray[Any]) -> NDArray[np.uint8]:
    values = pixels.astype(np.float32) * np.float32(header.get("RescaleSlope") or 1)
    values += np.float32(header.get("RescaleIntercept") or 0)
    window = window_of(header)
    low, high = window or (float(values.min()), float(values.max()))
    level = np.rint(255 * np.clip((values - low) / max(high - low, 1e-6), 0, 1)).astype(np.uint8)
    return np.asarray(255 - level if header.get("PhotometricInterpretation") == "MONOCHROME1" else level)


def window_of(header: Dataset) -> tuple[float, float] | None:
    """Return what is black and white in a header's first window (PS3.3 C.11.2.1.2), None where it has none."""
    found = []
    for keyword in ("WindowCenter", "WindowWidth"):
        value = header.get(keyword)
        first = value[0] if isinstance(value, MultiValue) and value else value
        try:
            found.append(float(first))
        except (TypeError, ValueError):
            return None
    centre, width = found
    return (centre - width / 2, centre + width / 2) if width > 1 else None


def _finite(element: object) -> bool:
    return all(math.isfinite(value) for value in _numbers_in(element))


def _numbers_in(element: object) -> Iterator[float]:
    if isinstance(element, dict):
        for part in element.values():
            yield from _numbers_in(part)
    elif isinstance(element, list):
        for part in element:
            yield from _numbers_in(part)
    elif isinstance(element, float):
        yield element
