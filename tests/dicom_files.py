"""Small DICOM files for tests of the network."""

import os
from pathlib import Path

import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian
from pynetdicom.dsutils import split_dataset

from daemon.dimse.part10 import head

CT = "1.2.840.10008.5.1.4.1.1.2"
STUDY, SERIES = "1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.2"


def _empty(path: Path, uid: str, sop_class: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(sop_class), UID(uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))


def ct_file(path: Path, uid: str = "1.2.826.0.1.3680043.8.498.3", size: int = 64, sop_class: str = CT) -> Path:
    """Write a single-frame image of random pixels, size x size, and return its path."""
    dataset = _empty(path, uid, sop_class)
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, uid
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY, SERIES
    dataset.PatientName, dataset.PatientID, dataset.Modality = "Test^Case", "T1", "CT"
    dataset.StudyID, dataset.SeriesNumber, dataset.InstanceNumber = "1", 1, 1
    dataset.Rows = dataset.Columns = size
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.add_new("PixelData", "OW", os.urandom(2 * size * size))
    dataset.save_as(path, enforce_file_format=True)
    return path


def opaque_file(path: Path, syntax: str, body: bytes, uid: str = "1.2.826.0.1.3680043.8.498.4") -> Path:
    """Write a Part 10 file whose data set is `body`, whatever that is, said to be a CT in `syntax`."""
    path.write_bytes(head(CT, uid, syntax) + body)
    return path


def data_set(path: Path) -> bytes:
    """Return the bytes behind the file meta information."""
    _, offset = split_dataset(path)
    return path.read_bytes()[offset:]


def shared_folder() -> Path:
    """Return the folder of real data beside the checkout; skip the test where there is none."""
    folder = Path(__file__).resolve().parents[1].parent / "shared"
    if not folder.is_dir():
        pytest.skip("no shared/ folder with real data beside the checkout")
    return folder
