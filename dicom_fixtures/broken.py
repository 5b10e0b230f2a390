"""Series spoiled on purpose, for tests of bad input.

Every function takes the folder of one series, changes it in place and draws nothing at random:
the same folder comes out the same. Files are taken in order of position along the slice normal.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

PRIVATE_SOP_CLASS = UID("1.2.826.0.1.3680043.8.498.99.1")


def in_order(folder: Path) -> list[Path]:
    """Return the folder's files from low to high along row x column direction."""

    def height(path: Path) -> float:
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        row, column = np.array(ds.ImageOrientationPatient, dtype=float).reshape(2, 3)
        return float(np.cross(row, column) @ np.array(ds.ImagePositionPatient, dtype=float))

    return sorted(folder.glob("*.dcm"), key=height)


def drop_slice(folder: Path) -> None:
    """Remove the middle slice: a gap in an otherwise unbroken run."""
    paths = in_order(folder)
    paths[len(paths) // 2].unlink()


def keep_one_slice(folder: Path) -> None:
    """Leave only the middle slice."""
    paths = in_order(folder)
    for path in paths[: len(paths) // 2] + paths[len(paths) // 2 + 1 :]:
        path.unlink()


def truncate(folder: Path) -> None:
    """Cut the middle slice's file within its pixel data."""
    paths = in_order(folder)
    victim = paths[len(paths) // 2]
    victim.write_bytes(victim.read_bytes()[: -victim.stat().st_size // 3])


def repeat_equal(folder: Path) -> None:
    """Add the middle slice once more, byte for byte."""
    paths = in_order(folder)
    (folder / "equal-repeat.dcm").write_bytes(paths[len(paths) // 2].read_bytes())


def repeat_altered(folder: Path) -> None:
    """Add the middle slice once more: the same SOP Instance UID, other pixels."""
    paths = in_order(folder)
    ds = pydicom.dcmread(paths[len(paths) // 2])
    ds.PixelData = bytes(len(ds.PixelData))
    ds.save_as(folder / "altered-repeat.dcm")


def make_localizer(folder: Path) -> None:
    """Leave three slices that say they are a LOCALIZER."""
    paths = in_order(folder)
    kept = [paths[len(paths) * part // 4] for part in (1, 2, 3)]
    for path in set(paths) - set(kept):
        path.unlink()

    def mark(ds: FileDataset, _: int) -> None:
        ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        ds.SeriesDescription = "3-plane loc"

    _each(folder, mark)


def mix_orientations(folder: Path) -> None:
    """Turn every second slice from its plane into a coronal one."""

    def turn(ds: FileDataset, number: int) -> None:
        if number % 2:
            ds.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]

    _each(folder, turn)


def forget_weight(folder: Path) -> None:
    """Leave Patient's Weight empty, so that SUVbw cannot be computed."""
    _each(folder, lambda ds, _: setattr(ds, "PatientWeight", None))


def forget_dose(folder: Path) -> None:
    """Remove the injected dose; what is no PET stays as it is."""

    def forget(ds: FileDataset, _: int) -> None:
        for drug in ds.get("RadiopharmaceuticalInformationSequence", []):
            del drug.RadionuclideTotalDose

    _each(folder, forget)


def make_4d(folder: Path) -> None:
    """Repeat every position at a second time point, told apart by Temporal Position Identifier."""
    paths = in_order(folder)
    for number, path in enumerate(paths):
        ds = pydicom.dcmread(path)
        for time in (1, 2):
            ds.NumberOfTemporalPositions, ds.TemporalPositionIdentifier = 2, time
            if time == 2:
                rename(ds, "second time")
                ds.InstanceNumber = len(paths) + number + 1
            ds.save_as(path if time == 1 else path.with_name(f"time2-{path.name}"))


def mix_patients(folder: Path) -> None:
    """Give every second slice to another patient, in the same Study and Series."""

    def give(ds: FileDataset, number: int) -> None:
        if number % 2:
            ds.PatientName, ds.PatientID = "FIXTURE^OTHER", "FX-OTHER"

    _each(folder, give)


def add_private(folder: Path) -> None:
    """Add an instance of a private SOP class to the series."""
    ds = pydicom.dcmread(in_order(folder)[0])
    for keyword in ("PixelData", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(ds, keyword)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = PRIVATE_SOP_CLASS
    rename(ds, "private")
    ds.save_as(folder / "private.dcm")


def add_strays(folder: Path) -> None:
    """Add what is not DICOM: a text file, an empty file, and a preamble with nothing behind it."""
    (folder / "notes.txt").write_text("not DICOM\n", encoding="utf-8")
    (folder / "empty.dcm").write_bytes(b"")
    (folder / "half.dcm").write_bytes(bytes(128) + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00")


def rename(ds: Dataset, why: str) -> None:
    """Give `ds` a SOP Instance UID of its own, derived from the old one and `why`."""
    uid = generate_uid(entropy_srcs=["overread fixture", str(ds.SOPInstanceUID), why])
    meta = ds.file_meta if hasattr(ds, "file_meta") else FileMetaDataset()
    meta.TransferSyntaxUID = meta.get("TransferSyntaxUID", ExplicitVRLittleEndian)
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = uid
    ds.file_meta = meta


def _each(folder: Path, change: Callable[[FileDataset, int], None]) -> None:
    for number, path in enumerate(in_order(folder)):
        ds = pydicom.dcmread(path)
        change(ds, number)
        ds.save_as(path)


FAULTS: dict[str, Callable[[Path], None]] = {
    fault.__name__.replace("_", "-"): fault
    for fault in (
        drop_slice,
        keep_one_slice,
        truncate,
        repeat_equal,
        repeat_altered,
        make_localizer,
        mix_orientations,
        forget_weight,
        forget_dose,
        make_4d,
        mix_patients,
        add_private,
        add_strays,
    )
}
