"""The quick way to stored values, against pydicom's."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from daemon.errors import UnprocessableError
from daemon.imaging import read
from daemon.imaging.plain import plain
from tests.dicom_files import ct_file


def _file(path: Path, syntax: UID = ExplicitVRLittleEndian, **changes: Any) -> Path:  # noqa: ANN401 - a DICOM value has many types
    dataset = pydicom.dcmread(ct_file(path))
    values = np.arange(dataset.Rows * dataset.Columns) * 37 % 4096
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 0
    dataset.PixelData = values.astype("<u2").tobytes()
    dataset.ImagePositionPatient, dataset.PixelSpacing = [0, 0, 0], [1, 1]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path, little_endian=True, implicit_vr=syntax.is_implicit_VR, enforce_file_format=True)
    return path


def _both(path: Path) -> tuple[NDArray[np.integer] | None, NDArray[np.integer]]:
    (frame,) = read._frames(path)
    (slow,) = read.decoded(path, [0], frame.header)
    return plain(frame), np.asarray(slow)


_SIGNED = (np.arange(32 * 32) * 37 % 4096 - 2048).astype("<i2")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"syntax": ImplicitVRLittleEndian},
        {"BitsStored": 16, "HighBit": 15},
        {"DataSetTrailingPadding": b"\0" * 64},
    ],
)
def test_usual_frames_are_read_as_pydicom_reads_them(tmp_path: Path, changes: dict[str, Any]) -> None:
    """The values are the same, and so is their type."""
    quick, slow = _both(_file(tmp_path / "a.dcm", **changes))
    assert quick is not None
    assert quick.dtype == slow.dtype
    np.testing.assert_array_equal(quick, slow)


def test_signed_values_are_signed(tmp_path: Path) -> None:
    """A negative value of 12 bits, extended to 16, is what pydicom makes of it."""
    path = _file(tmp_path / "a.dcm")
    dataset = pydicom.dcmread(path)
    dataset.PixelRepresentation = 1
    dataset.PixelData = np.resize(_SIGNED, dataset.Rows * dataset.Columns).tobytes()
    dataset.save_as(path)
    quick, slow = _both(path)
    assert quick is not None
    assert quick.min() < 0
    np.testing.assert_array_equal(quick, slow)


@pytest.mark.parametrize("changes", [{"BitsStored": 10, "HighBit": 9}, {"BitsStored": 10, "HighBit": 11}])
def test_what_is_unusual_is_left_to_pydicom(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Bits beyond those stored and bits that do not begin at the lowest are not read quickly."""
    (frame,) = read._frames(_file(tmp_path / "a.dcm", **changes))
    assert plain(frame) is None


def test_a_short_frame_is_left_to_pydicom_which_refuses_it(tmp_path: Path) -> None:
    """A file that ends within its pixels gives none."""
    path = _file(tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes()[:-2])
    (frame,) = read._frames(path)
    assert plain(frame) is None
    with pytest.raises(UnprocessableError):
        list(read.decoded(path, [0], frame.header))
