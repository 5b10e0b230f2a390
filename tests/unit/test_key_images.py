"""Key images: what they show, where, and what the gate holds."""

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from daemon.domain.output import OutputKind
from daemon.domain.reasons import Reason
from daemon.errors import UnprocessableError
from daemon.results.check_visible import check_key_images
from daemon.results.make import make
from daemon.results.outlines import outlines
from daemon.results.picture import OUTLINE, SIDE, key_slices, outline_view, place
from tests.matrix import MATRIX, brain
from tests.sources import Case, case

KINDS = (OutputKind.KEY_IMAGES,)


def images(built: Case) -> list[Dataset]:
    """Return the key images as they are written."""
    made = make(built.context, built.reading, KINDS)
    return [pydicom.dcmread(BytesIO(m.content)) for m in made if m.kind is OutputKind.KEY_IMAGES]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A head with two lesions."""
    return case(brain(tmp_path_factory.mktemp("keys")), count=2)


@pytest.mark.parametrize("seed", range(5))
def test_lines_enclose_the_mask(seed: int) -> None:
    """By the shoelace formula the lines enclose as many pixels as the mask has, with holes and corners that touch."""
    mask = np.random.default_rng(seed).random((9, 13)) < (0.5 if seed else 1.0)
    lines = outlines(mask)
    assert all((line[0] == line[-1]).all() for line in lines)
    areas = [float(np.cross(line[:-1], line[1:]).sum()) / 2 for line in _with_depth(lines)]
    assert sum(areas) == mask.sum()
    assert outlines(np.zeros((3, 3), dtype=bool)) == []


def _with_depth(lines: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    return [np.pad(line, ((0, 0), (0, 1))) for line in lines]


@pytest.mark.parametrize("name", ["axial", "oblique", "odd oblique", "multi-frame backwards", "one voxel", "petct"])
def test_the_gate_passes_and_a_repeat_is_equal(name: str, tmp_path: Path) -> None:
    """A key image for each lesion, in every orientation, and the same bytes again."""
    built = MATRIX[name](tmp_path)
    first, second = (make(built.context, built.reading, KINDS) for _ in range(2))
    assert [m.content for m in first] == [m.content for m in second]
    keys = [m for m in first if m.kind is OutputKind.KEY_IMAGES]
    assert len(keys) == len(built.context.findings.lesions)
    assert len({m.dataset.SeriesInstanceUID for m in keys}) == 1
    assert len({m.dataset.SOPInstanceUID for m in keys}) == len(keys)


def test_without_a_lesion_the_likeliest_slice_is_shown(tmp_path: Path) -> None:
    """A study in which nothing is outlined has one key image, of the slice of the highest probability."""
    built = case(brain(tmp_path), count=0)
    probability = built.reading.probability.copy()
    probability[7, 3, 4] = 0.2
    reading = replace(built.reading, probability=probability)
    assert [key.index for key in key_slices(reading, 5)] == [7]
    (image,) = images(replace(built, reading=reading))
    assert image.SourceImageSequence[0].ReferencedSOPInstanceUID == built.context.source.frames[7].sop_instance_uid
    assert not (image.pixel_array == np.array(OUTLINE)).all(axis=-1)[: SIDE // 2].any()


def test_nothing_is_made_that_nobody_gets(sound: Case) -> None:
    """Without a destination for them there are no key images."""
    assert {m.kind for m in make(sound.context, sound.reading)} == {OutputKind.SEGMENTATION, OutputKind.REPORT}


def test_burned_in_text_of_the_source_is_not_denied(sound: Case) -> None:
    """Burned In Annotation is NO, and YES where the source's own pixels may name the patient."""
    assert {image.BurnedInAnnotation for image in images(sound)} == {"NO"}
    header = sound.context.source.headers[0]
    try:
        header.BurnedInAnnotation = "YES"
        assert {image.BurnedInAnnotation for image in images(sound)} == {"YES"}
    finally:
        del header.BurnedInAnnotation


def mirrored(image: Dataset) -> None:
    """Mirror the outline's panel left to right."""
    pixels = image.pixel_array.copy()
    left, top = place()
    box = (slice(top, top + 340), slice(left, left + 340))
    pixels[box] = pixels[box][:, ::-1]
    image.PixelData = pixels.tobytes()


def unmarked(image: Dataset) -> None:
    """Take the outline away."""
    image.PixelData = np.zeros_like(image.pixel_array).tobytes()


def elsewhere(image: Dataset) -> None:
    """Refer to another instance."""
    image.SourceImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [(mirrored, "mm from the outline"), (unmarked, "encloses 0 pixels"), (elsewhere, "another slice")],
)
def test_what_was_spoiled_is_held(sound: Case, spoil: Callable[[Dataset], None], said: str) -> None:
    """A mirrored or missing outline and a foreign reference keep the picture here."""
    written = images(sound)
    spoil(written[0])
    with pytest.raises(UnprocessableError, match=said) as caught:
        check_key_images(written, sound.context, sound.reading)
    assert caught.value.reason == Reason.CONFORMANCE


def test_a_missing_picture_is_held(sound: Case) -> None:
    """As many as lesions, up to a few."""
    with pytest.raises(UnprocessableError, match="1 where 2 are due"):
        check_key_images(images(sound)[:1], sound.context, sound.reading)


def test_pixels_are_square(sound: Case) -> None:
    """A slice with pixels that are not square is shown in its true proportions."""
    grid = replace(sound.context.source.volume.grid, spacing=(3.0, 2.0, 1.0))
    context = replace(
        sound.context, source=replace(sound.context.source, volume=replace(sound.context.source.volume, grid=grid))
    )
    view = outline_view(context, 0)
    width, height = view.size
    assert width / height == pytest.approx(grid.size[2] / (2 * grid.size[1]), rel=0.02)
