"""Corrected SEGs as workstations send them back: ours, edited, under UIDs of their own."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pack_bits
from pydicom.uid import generate_uid

Edit = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


def same(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Change nothing."""
    return mask


def lower_half(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Drop the upper rows of every frame's outline: about half of the voxels."""
    edited = mask.copy()
    for frame in edited:
        rows = np.flatnonzero(frame.any(axis=1))
        if rows.size:
            frame[: int(rows.mean()) + 1] = 0
    return edited


def voxels(seg: Dataset) -> NDArray[np.uint8]:
    """Return the frames (frames, rows, columns) as they are in the file."""
    return np.asarray(seg.pixel_array, dtype=np.uint8).reshape(-1, int(seg.Rows), int(seg.Columns))


def corrected(ours: Path, edit: Edit = same, *, tracked: bool = True) -> Dataset:
    """Return our SEG as a person edited it; without `tracked` nothing but the referenced series says whose it was."""
    seg = pydicom.dcmread(ours)
    frames = edit(voxels(seg))
    seg.PixelData = pack_bits(frames.ravel()) if seg.BitsAllocated == 1 else frames.tobytes()
    seg.SOPInstanceUID = seg.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    seg.SeriesInstanceUID, seg.SeriesNumber = generate_uid(), 77
    seg.Manufacturer, seg.ManufacturerModelName = "Workstation", "Editor"
    for segment in seg.SegmentSequence:
        segment.SegmentAlgorithmType, segment.SegmentAlgorithmName = "SEMIAUTOMATIC", "brush"
        if not tracked:
            del segment.TrackingUID, segment.TrackingID
    return seg


def dice(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Return Dice of two masks of one shape."""
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())
