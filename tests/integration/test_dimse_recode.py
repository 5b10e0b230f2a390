"""Destinations that accept one transfer syntax only: what can be sent so without loss is, the rest says why not."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from daemon.dimse.contexts import COMPREHENSIVE_3D_SR_STORAGE, MOST_CONTEXTS, SEGMENTATION_STORAGE, requested
from daemon.dimse.probe import probe
from daemon.dimse.recode import recoded
from daemon.dimse.sender import send
from daemon.domain.delivery import Destination, SendOutcome
from daemon.domain.output import OutputKind
from daemon.errors import RefusedError
from tests.dicom_files import ct_file
from tests.matrix import MATRIX
from tests.peers import Peer, need, storescp

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
# DCMTK's names of transfer syntaxes, and its program that undoes each, where it has one
PEERS = {
    DeflatedExplicitVRLittleEndian: ("DeflatedLittleEndianExplicit", "dcmconv"),
    RLELossless: ("RLELossless", "dcmdrle"),
    JPEGLSLossless: ("JPEGLSLossless", "dcmdjpls"),
    JPEG2000Lossless: ("JPEG2000LosslessOnly", ""),
}


@dataclass(frozen=True, kw_only=True)
class Objects:
    """One object of each kind that we send, as far as transfer syntaxes care."""

    fractional: Path
    colour: Path
    deep: Path
    binary: Path
    report: Path

    @property
    def all(self) -> list[Path]:
        """Return them all."""
        return [self.fractional, self.colour, self.deep, self.binary, self.report]


def written(path: Path, number: int, sop_class: str, **values: int | str) -> Path:
    """Write an object; without Rows it has no pixels."""
    dataset = dcmread(ct_file(path, f"1.2.3.{number}", sop_class=sop_class))
    for keyword in () if "Rows" in values else ("Rows", "Columns", "PixelData", "BitsAllocated", "BitsStored"):
        delattr(dataset, keyword)
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    if "Rows" in values:
        bits = dataset.Rows * dataset.Columns * dataset.SamplesPerPixel * dataset.BitsAllocated
        count = -(-bits * int(dataset.get("NumberOfFrames", 1)) // 8)
        dataset.add_new("PixelData", "OB", bytes(7 * n // 5 % 256 for n in range(count + count % 2)))
        dataset.BitsStored, dataset.HighBit = dataset.BitsAllocated, dataset.BitsAllocated - 1
    dataset.save_as(path)
    return path


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    """Objects of odd sizes."""
    odd: dict[str, int | str] = {"Rows": 33, "Columns": 35}
    colour: dict[str, int | str] = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    return Objects(
        fractional=written(tmp_path / "f.dcm", 1, SEGMENTATION_STORAGE, **odd, BitsAllocated=8, NumberOfFrames=3),
        colour=written(tmp_path / "c.dcm", 2, SECONDARY_CAPTURE, **odd, **colour, BitsAllocated=8),
        deep=ct_file(tmp_path / "d.dcm", "1.2.3.3", size=65),
        binary=written(tmp_path / "b.dcm", 4, SEGMENTATION_STORAGE, **odd, BitsAllocated=1, NumberOfFrames=3),
        report=written(tmp_path / "r.dcm", 5, COMPREHENSIVE_3D_SR_STORAGE),
    )


def accepting(folder: Path, name: str) -> tuple[str, ...]:
    """Return options of storescp by which it accepts our objects in one transfer syntax only."""
    classes = (SEGMENTATION_STORAGE, SECONDARY_CAPTURE, COMPREHENSIVE_3D_SR_STORAGE, "1.2.840.10008.5.1.4.1.1.2")
    lines = [f"PresentationContext{number} = {uid}\\Only" for number, uid in enumerate(classes, 1)]
    path = folder / "storescp.cfg"
    path.write_text(
        f"[[TransferSyntaxes]]\n[Only]\nTransferSyntax1 = {name}\n"
        "[[PresentationContexts]]\n[Some]\n"
        + "\n".join(lines)
        + "\n[[Profiles]]\n[Ours]\nPresentationContexts = Some\n"
    )
    return "-xf", str(path), "Ours", "+B"


def destination(peer: Peer) -> Destination:
    """Return a peer as a destination."""
    return Destination(name="pacs", ae_title=peer.ae_title, host=peer.host, port=peer.port)


@pytest.mark.peers
@pytest.mark.parametrize("syntax", PEERS, ids=lambda uid: uid.keyword)
def test_a_peer_that_accepts_one_compressed_syntax_gets_equal_pixels(
    tmp_path: Path, objects: Objects, syntax: UID
) -> None:
    """Deflated takes everything; RLE, JPEG-LS and JPEG 2000 whole bytes, and the others say in words why not."""
    name, undo = PEERS[syntax]
    with storescp(tmp_path / "peer", *accepting(tmp_path, name)) as peer:
        results = dict(zip(objects.all, send(destination(peer), objects.all, "OVERREAD"), strict=True))
        seg = {service.uid: service for service in probe(destination(peer), "OVERREAD")}[SEGMENTATION_STORAGE]
    assert seg.transfer_syntaxes == (syntax.name,)
    whole = {objects.fractional, objects.colour, objects.deep}
    taken = set(objects.all) if syntax == DeflatedExplicitVRLittleEndian else whole
    assert {path for path, result in results.items() if result.outcome is SendOutcome.STORED} == taken
    for path in set(objects.all) - taken:
        assert results[path].outcome is SendOutcome.REFUSED
        assert "in every transfer syntax that it can be sent in (Explicit VR Little Endian," in results[path].detail
    for path in taken:
        (arrived,) = peer.folder.glob(f"*{results[path].sop_instance_uid}")
        assert dcmread(arrived).file_meta.TransferSyntaxUID == syntax
        equal(path, arrived)
        if undo:
            need(undo)
            plain = tmp_path / "plain.dcm"
            subprocess.run([undo, *(("+te",) if undo == "dcmconv" else ()), str(arrived), str(plain)], check=True)
            equal(path, plain)


def equal(sent: Path, arrived: Path) -> None:
    """Fail unless two objects have equal pixels, and equal values elsewhere but for how samples lie."""
    ours, theirs = dcmread(sent), dcmread(arrived)
    if "PixelData" in ours:
        assert np.array_equal(pixel_array(ours, raw=True), pixel_array(theirs, raw=True))
    for dataset in (ours, theirs):
        for keyword in ("PixelData", "PlanarConfiguration"):
            if keyword in dataset:
                delattr(dataset, keyword)
    assert ours.to_json_dict() == theirs.to_json_dict()


@pytest.mark.peers
@pytest.mark.parametrize(("matrix", "stored"), [("odd matrix", True), ("axial", False)])
def test_a_segmentation_of_ours_goes_as_rle_where_it_has_whole_bytes(
    tmp_path: Path,
    matrix: str,
    stored: bool,  # noqa: FBT001
) -> None:
    """FRACTIONAL, where rows times columns is no multiple of 8, arrives with equal voxels; BINARY cannot go so."""
    seg = tmp_path / "seg.dcm"
    seg.write_bytes(MATRIX[matrix](tmp_path / "study").contents[OutputKind.SEGMENTATION])
    assert (dcmread(seg).BitsAllocated == 8) is stored
    with storescp(tmp_path / "peer", *accepting(tmp_path, "RLELossless")) as peer:
        (result,) = send(destination(peer), [seg], "OVERREAD")
        arrived = list(peer.folder.iterdir())
    assert result.outcome is (SendOutcome.STORED if stored else SendOutcome.REFUSED), result.detail
    assert len(arrived) == stored
    for path in arrived:
        assert dcmread(path).file_meta.TransferSyntaxUID == RLELossless
        equal(seg, path)


@pytest.mark.peers
def test_big_endian_is_never_written(tmp_path: Path, objects: Objects) -> None:
    """A peer that takes nothing else gets nothing, and the reason names what we can send."""
    with storescp(tmp_path / "peer", *accepting(tmp_path, "BigEndianExplicit")) as peer:
        results = list(send(destination(peer), objects.all, "OVERREAD"))
        assert not list(peer.folder.iterdir())
    assert {result.outcome for result in results} == {SendOutcome.REFUSED}
    assert "RLE Lossless" in results[0].detail
    assert "RLE Lossless" not in results[4].detail


def test_pixels_that_cannot_be_encoded_are_refused(tmp_path: Path, objects: Objects) -> None:
    """A file whose pixels do not fill its frames is not sent as something else."""
    dataset = dcmread(objects.fractional)
    dataset.PixelData = dataset.PixelData[:20]
    dataset.save_as(tmp_path / "short.dcm")
    with pytest.raises(RefusedError, match="cannot be written in RLE Lossless"):
        recoded(tmp_path / "short.dcm", RLELossless)


def test_spare_contexts_never_displace_what_is_needed() -> None:
    """The limit of an association holds, and every object keeps its own context."""
    wanted = [(f"1.2.{number}", "1.2.840.10008.1.2.1") for number in range(60)]
    spare = [(uid, str(RLELossless)) for uid, _ in wanted]
    proposed = requested(wanted, spare)
    assert len(proposed) == len(set(proposed)) == MOST_CONTEXTS
    assert set(wanted) <= set(proposed)
