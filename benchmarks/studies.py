"""Studies of the sizes that hospitals send: a head at 1 mm, and a whole body of three trunks on top of each other."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import UID

from dicom_fixtures.planes import Layout
from dicom_fixtures.studies import StudyRequest, StudyTruth, make_brain_mri, make_petct

THICK = 3.0
# Rows and columns, and the stored value of air.
PET, CT = (200, 0), (512, 24)
TRUNKS = 3


def fine_head(request: StudyRequest, out: Path) -> StudyTruth:
    """Write a head MR of 186 slices of 256 x 256 at 1 mm."""
    return make_brain_mri(replace(request, spacing=(1.0, 1.0, 1.0), layout=Layout(matrix=(256, 256))), out)


def whole_body(request: StudyRequest, out: Path) -> StudyTruth:
    """Write a PET of 333 slices of 200 x 200 at 4 mm, and a CT of 333 of 512 x 512 at 1 mm."""
    made = make_petct(replace(request, spacing=(THICK, 4.0, 4.0), ct_spacing=(THICK, 1.0, 1.0)), out)
    for name, (side, air) in (("PET", PET), ("CT", CT)):
        for path in made.series[name]:
            _stack(path, side, air, len(made.series[name]))
    return made


def _stack(path: Path, side: int, air: int, count: int) -> None:
    """Replace a slice by one of `side` x `side` in each trunk."""
    dataset = pydicom.dcmread(path)
    pixels = dataset.pixel_array
    top, left = ((side - extent) // 2 for extent in pixels.shape)
    padded = np.full((side, side), air, dtype="<u2")
    padded[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    dataset.Rows = dataset.Columns = side
    dataset.PixelData = padded.tobytes()
    x, y, z = (float(v) for v in dataset.ImagePositionPatient)
    down, across = (float(v) for v in dataset.PixelSpacing)
    uid, number = str(dataset.SOPInstanceUID)[:60], int(dataset.InstanceNumber)
    path.unlink()
    for trunk in range(TRUNKS):
        dataset.ImagePositionPatient = [x - left * across, y - top * down, z + trunk * count * THICK]
        dataset.InstanceNumber = number + trunk * count
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"{uid}.{trunk}")
        dataset.save_as(path.with_name(f"{path.stem}-{trunk}.dcm"), enforce_file_format=True)


KINDS: Mapping[str, Callable[[StudyRequest, Path], StudyTruth]] = {
    "brain MRI, 46 slices": make_brain_mri,
    "brain MRI, 186 slices of 256 x 256": fine_head,
    "PET/CT, 83 + 83 slices": make_petct,
    "PET/CT, 333 of 200 x 200 + 333 of 512 x 512": whole_body,
}
