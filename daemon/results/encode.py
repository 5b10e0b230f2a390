"""Objects to Part 10 bytes; the same object always gives the same bytes."""

from io import BytesIO

from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from daemon import uids
from daemon.uids import Role


def encode(dataset: Dataset) -> bytes:
    """Return `dataset` as a Part 10 file in Explicit VR Little Endian (PS3.10 7.1)."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(uids.derive(Role.DEVICE, "overread"))
    meta.ImplementationVersionName = "OVERREAD"
    dataset.file_meta = meta
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()
