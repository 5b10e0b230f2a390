"""The gate's reading of what stands beside SEG and SR: each refers to the source, and marks what the model outlined."""

from collections.abc import Iterator

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from daemon.imaging.reading import Reading
from daemon.results.check import POSITION_TOLERANCE_MM
from daemon.results.context import ResultContext
from daemon.results.key_images import MOST_KEY_IMAGES
from daemon.results.page import MOST_SLICES
from daemon.results.picture import OUTLINE, KeySlice, key_slices, outline_view, place, uncertainty
from daemon.results.refusal import held
from daemon.results.snapshots import activated

# A line of some pixels lies half within: what it encloses is known but for its own width.
_LINE_PIXELS = 4.0
_KEY_IMAGES = "key-images"


def check_key_images(images: list[Dataset], context: ResultContext, reading: Reading) -> None:
    """Compare key images that were written with what was found.

    Raises:
        UnprocessableError: there are others than are due, one refers to another slice than it shows, may name the
            patient though it says not, or encloses another area than the outline has there.
    """
    for image, key in _pictured(images, context, reading, _KEY_IMAGES):
        _same_area(image, key.index, context, reading.labels[key.index] > 0)


def check_activation(images: list[Dataset], context: ResultContext, reading: Reading) -> None:
    """Compare pictures of the class activation that were written with what was found.

    Raises:
        UnprocessableError: as `check_key_images`, or a picture is another than that of its slice.
    """
    for image, key in _pictured(images, context, reading, "activation"):
        if not np.array_equal(image.pixel_array, activated(context, reading, key.index)):
            raise held("activation", "its picture is not that of its slice")


def _pictured(
    images: list[Dataset], context: ResultContext, reading: Reading, kind: str
) -> Iterator[tuple[Dataset, KeySlice]]:
    """Yield pictures with the slices that they are of, once each is held to be of it and to name nobody."""
    keys = key_slices(reading, MOST_KEY_IMAGES)
    if len(images) != len(keys):
        raise held(kind, f"there are {len(images)} where {len(keys)} are due")
    for image, key in zip(images, keys, strict=True):
        frame = context.source.frames[key.index]
        reference = image.SourceImageSequence[0]
        named = (str(reference.ReferencedSOPInstanceUID), reference.get("ReferencedFrameNumber"))
        if named != (frame.sop_instance_uid, frame.frame_number):
            raise held(kind, "it refers to another slice than it shows")
        if image.BurnedInAnnotation != "YES" and context.source.header.get("BurnedInAnnotation") == "YES":
            raise held(kind, "the source's pixels may name the patient, and it says that they do not")
        yield image, key


def check_summary(pages: list[Dataset], context: ResultContext, reading: Reading) -> None:
    """Check that the document is one page of PDF, whole, about slices of the source.

    Raises:
        UnprocessableError: it is not.
    """
    (page,) = pages
    content = bytes(page.EncapsulatedDocument)[: page.EncapsulatedDocumentLength]
    if not content.startswith(b"%PDF-") or not content.rstrip().endswith(b"%%EOF") or b"/Count 1 " not in content:
        raise held("pdf", "it is not one whole page of PDF")
    named = [str(item.ReferencedSOPInstanceUID) for item in page.SourceInstanceSequence]
    keys = key_slices(reading, MOST_SLICES)
    if named != [context.source.frames[key.index].sop_instance_uid for key in keys]:
        raise held("pdf", "it refers to other slices than it shows")


def check_uncertainty(maps: list[Dataset], context: ResultContext, reading: Reading) -> None:
    """Compare the map of the doubt with what inference gave; raises as `_same_map`."""
    _same_map(maps, context, ("uncertainty", uncertainty(reading)))


def check_probability(maps: list[Dataset], context: ResultContext, reading: Reading) -> None:
    """Compare the map of the probability with what inference gave; raises as `_same_map`."""
    _same_map(maps, context, ("probability", reading.probability))


def _same_map(maps: list[Dataset], context: ResultContext, due: tuple[str, NDArray[np.float32]]) -> None:
    """Compare a map with what is `due`, (kind, values), voxel by voxel at its place in the patient.

    Raises:
        UnprocessableError: a value, a place, the frame of reference or a source instance is another, or the frames do
            not ascend along the normal.
    """
    (written,), (kind, expected_values) = maps, due
    grid = context.source.volume.grid
    if written.FrameOfReferenceUID != context.source.header.get("FrameOfReferenceUID"):
        raise held(kind, "the frame of reference is not the source's")
    groups = written.PerFrameFunctionalGroupsSequence
    found = np.array([[float(v) for v in g.PlanePositionSequence[0].ImagePositionPatient] for g in groups])
    expected = np.array([frame.position for frame in context.source.frames])
    if found.shape != expected.shape or float(np.abs(found - expected).max()) > POSITION_TOLERANCE_MM:
        raise held(kind, "its frames do not lie where the source's slices do, from the low end on")
    values = np.asarray(written.pixel_array).reshape(grid.size)
    if not np.array_equal(values, expected_values):
        raise held(kind, "its values are not what was found")
    known = {frame.sop_instance_uid for frame in context.source.frames}
    named = {
        str(image.ReferencedSOPInstanceUID)
        for group in groups
        for derivation in group.get("DerivationImageSequence") or ()
        for image in derivation.SourceImageSequence
    }
    if not named or not named <= known:
        raise held(kind, "it refers to instances that are not the source's")


def _same_area(image: Dataset, index: int, context: ResultContext, mask: NDArray[np.bool_]) -> None:
    """Compare what the drawn line encloses with the outline's area, holes filled in both, in pixels of the picture."""
    view = outline_view(context, index)
    (left, top), (width, height) = place(), view.size
    panel = np.asarray(image.pixel_array)[top : top + height, left : left + width]
    drawn = np.all(panel == np.array(OUTLINE), axis=-1)
    enclosed = int(_filled(drawn).sum())
    spacing = context.source.volume.grid.spacing
    expected = float(_filled(mask).sum()) * spacing[1] * spacing[2] / view.mm**2
    if abs(enclosed - expected) > _LINE_PIXELS * int(drawn.sum()) / 2 + 1 or bool(mask.any()) != bool(drawn.any()):
        raise held(_KEY_IMAGES, f"its line encloses {enclosed} pixels where the outline has {expected:.0f}")
    if mask.any():
        _same_middle(_filled(drawn), _filled(mask), view.mm, spacing)


def _same_middle(
    drawn: NDArray[np.bool_], mask: NDArray[np.bool_], mm: float, spacing: tuple[float, float, float]
) -> None:
    """Compare the middles, in mm from the slice's corner: a line that is mirrored encloses the same area elsewhere."""
    here = (np.argwhere(drawn) + 0.5).mean(axis=0) * mm
    there = (np.argwhere(mask) + 0.5).mean(axis=0) * np.array(spacing[1:])
    apart = float(np.abs(here - there).max())
    if apart > max(2 * mm, 1.0):
        raise held(_KEY_IMAGES, f"its line lies {apart:.1f} mm from the outline")


def _filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    image = sitk.GetImageFromArray(np.pad(mask, 1).astype(np.uint8))
    return np.asarray(sitk.GetArrayFromImage(sitk.BinaryFillhole(image)) > 0)[1:-1, 1:-1]
