"""Objects in another transfer syntax than their file's, without loss (PS3.5 Annex A)."""

from functools import lru_cache
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels.encoders.base import get_encoder
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom.dsutils import encode

from daemon.dimse.contexts import UNCOMPRESSED
from daemon.errors import RefusedError

# Bits Allocated (0028,0100) that every one of the encoders takes; a BINARY SEG has one bit a pixel.
WHOLE_BYTES = frozenset({8, 16})
# Each by one plug-in: gdcm's for RLE ends the process where rows times columns is odd.
_ENCODERS = {RLELossless: "pydicom", JPEGLSLossless: "pyjpegls", JPEG2000Lossless: "pylibjpeg"}


def lossless(bits: int) -> tuple[UID, ...]:
    """Return the compressed transfer syntaxes in which objects of ours can go, the preferred first.

    Deflated serves every object; the others those whose pixels have `bits` allocated, 0 where there are none. The
    installed pydicom plug-ins are asked, so a syntax is proposed exactly when it can be written.
    """
    if bits not in WHOLE_BYTES:
        return (DeflatedExplicitVRLittleEndian,)
    found = (uid for uid, plugin in _ENCODERS.items() if plugin in get_encoder(uid).available_plugins)
    return (DeflatedExplicitVRLittleEndian, *found)


@lru_cache(64)
def writable(syntax: str, bits: int) -> tuple[UID, ...]:
    """Return the transfer syntaxes in which a file in `syntax` can go, the preferred first: its own.

    What is compressed, or big endian, goes as it is or not at all.
    """
    own = UID(syntax)
    if own not in UNCOMPRESSED or not own.is_little_endian:
        return (own,)
    return tuple(dict.fromkeys((own, *UNCOMPRESSED[:2], *lossless(bits))))


def bits_allocated(path: Path) -> int:
    """Return Bits Allocated (0028,0100) of a Part 10 file; 0 where it has none, or cannot be read that far."""
    try:
        header = dcmread(path, specific_tags=["BitsAllocated"], stop_before_pixels=True)
        return int(header.get("BitsAllocated") or 0)
    except Exception:  # noqa: BLE001 - whatever a data set holds, it can be sent as it lies
        return 0


def recoded(path: Path, syntax: UID) -> bytes:
    """Return the data set of a file in `syntax`; every pixel was compared.

    Raises:
        RefusedError: it cannot be written so without loss.
    """
    try:
        dataset = dcmread(path)
        sound = not syntax.is_encapsulated or _compressed(dataset, syntax)
    except Exception as error:
        # What pydicom and its plug-ins trip over may be anything; the next syntax is tried, or the object refused.
        raise RefusedError(f"it cannot be written in {syntax.name}") from error
    if not sound:
        raise RefusedError(f"its pixels would not come back from {syntax.name} as they are")
    encoded = encode(dataset, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
    if encoded is None:
        raise RefusedError(f"it cannot be written in {syntax.name}")
    return encoded


def _compressed(dataset: Dataset, syntax: UID) -> bool:
    """Compress pixels; return whether they come back as they were."""
    before = pixel_array(dataset, raw=True)
    dataset.compress(syntax, encoding_plugin=_ENCODERS[syntax], generate_instance_uid=False)
    after = pixel_array(dataset, raw=True)
    return np.array_equal(before, after)
