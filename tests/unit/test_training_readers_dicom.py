"""DICOM series with SEG or RTSTRUCT: contours of known shapes, outlines of known studies, real RTSTRUCT."""

import shutil
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from daemon.imaging.read import read_series
from daemon.imaging.volume import Grid
from dicom_fixtures.studies import StudyRequest, StudyTruth, make_brain_mri
from tests.manifests import BRAIN, PETCT
from tests.shared import shared
from training.data.readers import Request, Study, find
from training.data.readers.contours import rasterise
from training.data.readers.study import read

GRID = Grid(size=(7, 60, 80), spacing=(3.0, 1.0, 1.0), origin=(-40.0, -30.0, 12.0))
MR_REQUEST = Request(manifest=BRAIN)


def circle(radius: float, z: float, centre: tuple[float, float] = (0.3, -0.2)) -> NDArray[np.float64]:
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    x, y = centre[0] + radius * np.cos(angles), centre[1] + radius * np.sin(angles)
    return np.stack([x, y, np.full_like(x, z)], axis=1)


def inside(radius: float, centre: tuple[float, float] = (0.3, -0.2)) -> NDArray[np.bool_]:
    """Return the pixels of a slice of GRID whose centres are within a circle."""
    rows, columns = np.indices(GRID.size[1:])
    return np.asarray(np.hypot(columns - 40 - centre[0], rows - 30 - centre[1]) < radius)


def test_a_circle_becomes_the_voxels_whose_centres_it_holds() -> None:
    """A contour on one slice marks that slice alone, to the voxel (the polygon itself is a hair smaller)."""
    marked = rasterise([circle(9.37, 12.0 + 3 * 2)], GRID)
    assert marked.any(axis=(1, 2)).tolist() == [False, False, True, False, False, False, False]
    assert np.array_equal(marked[2], inside(9.37))


def test_a_rectangle_by_hand() -> None:
    """Corners between voxel centres: rows 10..19 and columns 20..24."""
    low_x, low_y = -40 + 19.5, -30 + 9.5
    corners = [(low_x, low_y), (low_x + 5, low_y), (low_x + 5, low_y + 10), (low_x, low_y + 10)]
    marked = rasterise([np.array([(x, y, 12.0) for x, y in corners])], GRID)
    expected = np.zeros(GRID.size, bool)
    expected[0, 10:20, 20:25] = True
    assert np.array_equal(marked, expected)


def test_a_contour_within_another_is_a_hole() -> None:
    """Two contours of one plane exclude each other, and so does a keyhole that joins them."""
    outer, inner = circle(12.4, 12.0), circle(5.3, 12.0)
    ring = inside(12.4) & ~inside(5.3)
    assert np.array_equal(rasterise([outer, inner], GRID)[0], ring)
    keyhole = np.concatenate([outer, outer[:1], inner[::-1], inner[-1:], outer[:1]])
    assert np.count_nonzero(rasterise([keyhole], GRID)[0] ^ ring) <= 8


def test_contours_apart_in_one_plane_are_both_marked() -> None:
    """Two lesions of one region."""
    left, right = (-20.4, 3.1), (20.2, -4.3)
    marked = rasterise([circle(5.2, 15.0, left), circle(7.7, 15.0, right)], GRID)
    assert np.array_equal(marked[1], inside(5.2, left) | inside(7.7, right))


@pytest.mark.parametrize(("step", "slices"), [(3.0, [1, 2, 3, 4]), (1.5, [1, 2, 3, 4]), (6.0, [0, 1, 2, 3, 4])])
def test_contours_of_another_spacing_leave_no_gap(step: float, slices: list[int]) -> None:
    """Planes drawn from z = 15 to 24 fill the slices between, be they closer together or further apart."""
    heights = np.arange(15.0, 24.1, step)
    marked = rasterise([circle(8.1, float(z)) for z in heights], GRID)
    assert np.flatnonzero(marked.any(axis=(1, 2))).tolist() == slices
    assert all(np.array_equal(marked[k], inside(8.1)) for k in slices)


def test_an_oblique_grid_is_no_different() -> None:
    """Points go through the grid's own axes."""
    c, s = np.cos(0.4), np.sin(0.4)
    turned = Grid(
        size=GRID.size, spacing=GRID.spacing, origin=(5.0, 6.0, 7.0), axes=((0, -s, c), (0, c, s), (1.0, 0.0, 0.0))
    )
    flat = circle(9.37, 12.0 + 3 * 2)
    points = turned.points(((flat - np.array(GRID.origin)) / np.array(GRID.spacing[::-1]))[:, ::-1])
    assert np.array_equal(rasterise([points], turned), rasterise([flat], GRID))


def test_a_contour_across_the_slices_is_refused() -> None:
    """A contour drawn on a sagittal image cannot be filled on axial slices."""
    with pytest.raises(ValueError, match="not drawn in the planes"):
        rasterise([circle(9.0, 20.0)[:, [2, 0, 1]]], GRID)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> StudyTruth:
    return make_brain_mri(StudyRequest(seed=3, contrasts=("FLAIR", "T1C")), tmp_path_factory.mktemp("study"))


@pytest.fixture
def folder(made: StudyTruth, tmp_path: Path) -> Path:
    """Return a copy of the study's images, to which a test adds what was drawn."""
    return Path(shutil.copytree(made.folder, tmp_path / "dicom"))


def headers(paths: list[Path]) -> list[Dataset]:
    return sorted((pydicom.dcmread(p) for p in paths), key=lambda h: float(h.ImagePositionPatient[2]))


def truth(made: StudyTruth) -> NDArray[np.uint8]:
    mask: NDArray[np.uint8] = sitk.GetArrayFromImage(sitk.ReadImage(str(made.mask)))
    return mask


def write_seg(path: Path, source: list[Dataset], segments: dict[str, NDArray[np.uint8]]) -> None:
    """Write a SEG with one segment for each label; every other one is oedema, which is no neoplasm."""
    kinds = (codes.SCT.Neoplasm, codes.SCT.Edema)
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=kinds[(number - 1) % 2],
            algorithm_type="MANUAL",
        )
        for number, label in enumerate(segments, start=1)
    ]
    hd.seg.Segmentation(
        source_images=source,
        pixel_array=np.stack(list(segments.values()), axis=-1),
        segmentation_type="BINARY",
        segment_descriptions=descriptions,
        series_instance_uid=hd.UID(),
        series_number=9,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="Test",
        manufacturer_model_name="Test",
        software_versions="1",
        device_serial_number="1",
    ).save_as(path)


def write_rtstruct(path: Path, source: Dataset, regions: dict[str, list[NDArray[np.float64]]]) -> None:
    """Write an RTSTRUCT that refers to the series of `source` (PS3.3 A.19.3)."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.PatientID, ds.StudyInstanceUID, ds.SeriesInstanceUID = source.PatientID, source.StudyInstanceUID, generate_uid()
    ds.Modality, ds.StructureSetLabel = "RTSTRUCT", "test"
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = source.SeriesInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = source.FrameOfReferenceUID, [study]
    ds.ReferencedFrameOfReferenceSequence = [frame]
    ds.StructureSetROISequence, ds.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(regions.items(), start=1):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, source.FrameOfReferenceUID
        drawn.ReferencedROINumber, drawn.ContourSequence = number, []
        for points in contours:
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
            contour.ContourData = [f"{v:.4f}" for v in points.ravel()]
            drawn.ContourSequence.append(contour)
        ds.StructureSetROISequence.append(roi)
        ds.ROIContourSequence.append(drawn)
    ds.save_as(path, enforce_file_format=True)


def only(folder: Path, request: Request = MR_REQUEST) -> Study:
    (study,) = find("dicom", folder, request)
    return study


def test_a_seg_is_read_on_the_series_that_the_daemon_chooses(made: StudyTruth, folder: Path) -> None:
    """FLAIR is read, though the outline was drawn on T1C; it comes back as the truth that it was drawn from."""
    write_seg(folder / "seg.dcm", headers(made.series["T1C"]), {"Tumour": truth(made)})
    study = only(folder)
    images = study.load()
    assert images.mask is not None
    assert np.array_equal(images.mask.voxels, truth(made))
    assert np.array_equal(images.volumes["MR"].voxels, read_series(made.series["FLAIR"]).volume.voxels)
    sample = read(study, BRAIN.recipe)
    assert (sample.tumour, sample.patient, sample.source) == (1, "FX-BRAIN-3", "DICOM")
    assert sample.mask is not None
    assert sample.mask.sum() == pytest.approx(truth(made).sum(), rel=0.05)


def test_segments_of_two_kinds_need_a_choice(made: StudyTruth, folder: Path) -> None:
    """Tumour and oedema side by side: the message lists both, and `region` takes one."""
    tumour = truth(made)
    other = np.roll(tumour, 40, axis=2)
    write_seg(folder / "seg.dcm", headers(made.series["FLAIR"]), {"Tumour": tumour, "Oedema": other * (1 - tumour)})
    with pytest.raises(ValueError, match=r"which region is the tumour.*Oedema, Tumour.*--region"):
        only(folder).load()
    images = only(folder, Request(manifest=BRAIN, region="^tumour$")).load()
    assert images.mask is not None
    assert np.array_equal(images.mask.voxels, tumour)
    with pytest.raises(ValueError, match="no region fits 'GTV'; there is Oedema, Tumour"):
        only(folder, Request(manifest=BRAIN, region="GTV")).load()


def test_what_is_tumour_is_chosen_among_all_objects_together(made: StudyTruth, folder: Path) -> None:
    """GTV and liver in two RTSTRUCT and oedema in a SEG need a choice, as in one; those without a fit are left."""
    source = headers(made.series["FLAIR"])
    heights = [float(h.ImagePositionPatient[2]) for h in source[20:24]]
    write_rtstruct(folder / "gtv.dcm", source[0], {"GTV": [circle(12.0, z, (20.0, -10.0)) for z in heights]})
    alone = only(folder).load().mask
    write_rtstruct(folder / "liver.dcm", source[0], {"Liver": [circle(30.0, z, (-20.0, 10.0)) for z in heights]})
    with pytest.raises(ValueError, match=r"which region is the tumour\? There is GTV, Liver; say it with --region"):
        only(folder).load()
    write_seg(folder / "seg.dcm", source, {"Oedema": np.roll(truth(made), 40, axis=2)})
    chosen = only(folder, Request(manifest=BRAIN, region="^GTV")).load().mask
    assert alone is not None
    assert chosen is not None
    assert np.array_equal(chosen.voxels, alone.voxels)
    with pytest.raises(ValueError, match="no region fits 'lung'; there is GTV, Liver, Oedema"):
        only(folder, Request(manifest=BRAIN, region="lung")).load()


def test_an_rtstruct_gives_the_shape_that_was_drawn(made: StudyTruth, folder: Path) -> None:
    """A drawn cylinder of 12 mm radius over four slices has its volume; the skin beside it is not chosen."""
    source = headers(made.series["FLAIR"])
    heights = [float(h.ImagePositionPatient[2]) for h in source[20:24]]
    regions = {
        "GTV": [circle(12.0, z, (20.0, -10.0)) for z in heights],
        "Skin": [circle(60.0, z, (0.0, 0.0)) for z in heights],
    }
    write_rtstruct(folder / "rs.dcm", source[0], regions)
    mask = only(folder, Request(manifest=BRAIN, region="gtv")).load().mask
    assert mask is not None
    assert np.flatnonzero(mask.voxels.any(axis=(1, 2))).tolist() == [20, 21, 22, 23]
    assert mask.voxels.sum() == pytest.approx(np.pi * 12**2 * 4, rel=0.02)
    centre = mask.grid.points(np.argwhere(mask.voxels)).mean(axis=0)
    assert centre == pytest.approx([20.0, -10.0, np.mean(heights)], abs=0.3)


def test_an_outline_in_another_frame_of_reference_is_refused(made: StudyTruth, folder: Path) -> None:
    """Coordinates of another frame mean nothing here."""
    source = headers(made.series["FLAIR"])[0]
    source.FrameOfReferenceUID = generate_uid()
    write_rtstruct(folder / "rs.dcm", source, {"GTV": [circle(12.0, 0.0)]})
    with pytest.raises(ValueError, match="another frame of reference"):
        only(folder).load()


def test_studies_that_cannot_be_read_are_listed_and_strangers_passed_over(made: StudyTruth, tmp_path: Path) -> None:
    """A cut-off .dcm and a study of three slices are there with their causes; a text file is not."""
    root = tmp_path / "mixed"
    root.mkdir()
    (root / "readme.txt").write_text("no DICOM")
    (root / "cut.dcm").write_bytes(made.series["FLAIR"][0].read_bytes()[:300])
    for path in made.series["FLAIR"][:3]:
        shutil.copy(path, root)
    short, broken = find("dicom", root, Request(manifest=BRAIN))
    with pytest.raises(ValueError, match=r"cut\.dcm: "):
        broken.load()
    with pytest.raises(ValueError, match="slices"):
        short.load()


def test_a_study_without_outline_has_none(made: StudyTruth) -> None:
    """Nobody drew one: unlabelled, as what `query` ranks."""
    sample = read(only(made.folder), BRAIN.recipe)
    assert (sample.mask, sample.tumour) == (None, None)
    assert sample.image.shape[0] == 1


@pytest.mark.shared
def test_real_rtstructs_agree_with_the_published_masks() -> None:
    """Three PET/CT patients' RTSTRUCT, rasterised here, equal the NIfTI masks published beside them to Dice .99."""
    masks = {s.patient: s for s in find("pairs", shared("petct", "nifti"), Request(manifest=PETCT))}
    studies = find("dicom", shared("petct", "dicom"), Request(manifest=PETCT))
    assert len(studies) == 3
    for study in studies:
        ours, theirs = read(study, PETCT.recipe), read(masks[study.patient], PETCT.recipe)
        assert ours.mask is not None
        assert theirs.mask is not None
        shared_voxels = int((ours.mask & theirs.mask).sum())
        assert 2 * shared_voxels / (ours.mask.sum() + theirs.mask.sum()) > 0.99
        assert np.abs(ours.image[0].astype(np.float32) - theirs.image[0].astype(np.float32)).max() < 0.01
