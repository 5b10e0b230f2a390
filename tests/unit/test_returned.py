"""SEGs as other tools encode them, compared with ours; and bytes that are none."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pack_bits
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from daemon.domain.output import OutputKind
from daemon.errors import RefusedError
from daemon.imaging.read import read_series
from daemon.results.returned import claims, compare
from dicom_fixtures.planes import Layout, Orientation
from dicom_fixtures.studies import StudyRequest, make_brain_mri
from tests.corrections import corrected, dice, lower_half, voxels
from tests.sources import COARSE, blobs, case


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An oblique outline of ours whose frames share octets where they are written as bits."""
    folder = tmp_path_factory.mktemp("odd")
    layout = Layout(orientation=Orientation.OBLIQUE, spacing=COARSE, matrix=(61, 53))
    paths = make_brain_mri(StudyRequest(seed=3, spacing=COARSE, layout=layout), folder).series["FLAIR"]
    outline = case(paths, mask=blobs(read_series(paths), 2)).contents[OutputKind.SEGMENTATION]
    (folder / "ours.dcm").write_bytes(outline)
    return folder / "ours.dcm"


def whole(path: Path, ours: Path) -> None:
    """Look at it as a worker does."""
    claims(path)
    compare(path, ours)


def as_bits(seg: Dataset) -> Dataset:
    seg.PixelData = pack_bits(voxels(seg).ravel())
    seg.SegmentationType, seg.BitsAllocated, seg.BitsStored, seg.HighBit = "BINARY", 1, 1, 0
    del seg.MaximumFractionalValue, seg.SegmentationFractionalType
    return seg


def as_probability(seg: Dataset) -> Dataset:
    seg.MaximumFractionalValue, seg.PixelData = 200, (voxels(seg) * 120).tobytes()
    return seg


def run_length(seg: Dataset) -> Dataset:
    seg.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    return seg


def deflated(seg: Dataset) -> Dataset:
    seg.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return seg


@pytest.mark.parametrize("encode", [as_bits, as_probability, run_length, deflated])
def test_an_encoding_changes_no_outline(ours: Path, tmp_path: Path, encode: object) -> None:
    """Bits over frames' borders, FRACTIONAL at half of its maximum, run lengths, deflated: Dice is the masks' own."""
    assert callable(encode)
    edited = corrected(ours, lower_half)
    expected = dice(voxels(pydicom.dcmread(ours)), voxels(edited))
    encode(edited).save_as(tmp_path / "edited.dcm")
    found = compare(tmp_path / "edited.dcm", ours)
    assert found.dice == pytest.approx(expected)
    assert 0.2 < expected < 0.95


def test_of_several_segments_the_one_with_our_code_counts(ours: Path, tmp_path: Path) -> None:
    """A second segment of another kind is not compared; where none is like ours nobody guesses."""
    edited = corrected(ours, tracked=False)
    other = pydicom.dcmread(ours).SegmentSequence[0]
    other.SegmentNumber = 2
    other.SegmentedPropertyTypeCodeSequence[0].CodeValue = "0"
    del other.TrackingUID
    edited.SegmentSequence.append(other)
    edited.save_as(tmp_path / "two.dcm")
    assert compare(tmp_path / "two.dcm", ours).dice == 1.0
    edited.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue = "0"
    edited.save_as(tmp_path / "neither.dcm")
    with pytest.raises(RefusedError, match="none of its several segments"):
        compare(tmp_path / "neither.dcm", ours)


@pytest.mark.parametrize("end", [0, 200, 1500, -1])
def test_what_is_cut_off_is_refused_in_our_own_words(ours: Path, tmp_path: Path, end: int) -> None:
    """No message holds anything of the bytes."""
    path = tmp_path / "cut.dcm"
    path.write_bytes(ours.read_bytes()[:end])
    with pytest.raises(RefusedError) as refused:
        whole(path, ours)
    assert str(pydicom.dcmread(ours).PatientName) not in str(refused.value)


def test_a_giant_is_not_decoded(ours: Path, tmp_path: Path) -> None:
    """What claims more voxels than are compared is refused before a frame is read."""
    giant = corrected(ours)
    groups = list(giant.PerFrameFunctionalGroupsSequence)
    giant.Rows = giant.Columns = 8192
    giant.PerFrameFunctionalGroupsSequence = groups[:1] * 5
    giant.save_as(tmp_path / "giant.dcm")
    with pytest.raises(RefusedError, match="more than is compared"):
        compare(tmp_path / "giant.dcm", ours)
    assert np.prod((8192, 8192, 4)) == 1 << 28
