"""What `outputs show --picture` draws, held against the mask and the map that were written."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from typer.testing import CliRunner

from daemon.cli.main import app
from daemon.domain.output import OutputKind
from daemon.errors import FatalError
from daemon.results.glance import glance, source_of
from daemon.results.make import make
from daemon.results.picture import OUTLINE
from daemon.results.views import View
from tests.consoles import configured
from tests.houses import House as Ledger
from tests.matrix import MATRIX
from tests.sources import Case

KINDS = (OutputKind.KEY_IMAGES, OutputKind.UNCERTAINTY)


def written(built: Case, kind: OutputKind) -> Dataset:
    """Return the first object of a kind, read back."""
    return next(
        pydicom.dcmread(BytesIO(m.content)) for m in make(built.context, built.reading, KINDS) if m.kind is kind
    )


@pytest.mark.parametrize("name", ["axial", "odd oblique", "multi-frame backwards"])
def test_the_outline_lies_around_the_mask_on_its_largest_slice(name: str, tmp_path: Path) -> None:
    """By the slice's number, and by the box that the line fills, to two pixels of the picture."""
    built = MATRIX[name](tmp_path)
    source, mask = built.context.source, built.labels > 0
    segmentation = written(built, OutputKind.SEGMENTATION)
    assert source_of(segmentation) == source.header.SeriesInstanceUID
    shown = glance(segmentation, source)
    counts = mask.sum(axis=(1, 2))
    index = int(shown.title.split()[1]) - 1
    assert counts[index] == counts.max()
    drawn = np.argwhere((shown.pixels == np.array(OUTLINE)).all(axis=-1))
    grid = source.volume.grid
    view = View.fitted(grid, index, (768, 768))
    inside = np.argwhere(mask[index])
    corners = np.array([inside.min(axis=0), inside.max(axis=0) + 1])[:, ::-1].astype(float)
    expected = view.corners(corners, grid)[:, ::-1]
    assert np.array([drawn.min(axis=0), drawn.max(axis=0)]) == pytest.approx(expected, abs=3)


def test_a_map_is_drawn_where_it_is_brightest_and_a_key_image_as_it_is(tmp_path: Path) -> None:
    """Neither needs the source; what is no image, or has lost its source, says so."""
    built = MATRIX["axial"](tmp_path)
    shown = glance(written(built, OutputKind.UNCERTAINTY), None)
    assert int(shown.title.split()[1]) - 1 == int(built.reading.entropy.sum(axis=(1, 2)).argmax())
    doubt = built.reading.entropy[int(shown.title.split()[1]) - 1]
    light = shown.pixels.sum(axis=-1)
    assert light[np.unravel_index(doubt.argmax(), doubt.shape)] == light.max() > light.min()
    key = written(built, OutputKind.KEY_IMAGES)
    assert np.array_equal(glance(key, None).pixels, key.pixel_array)
    with pytest.raises(FatalError, match="are freed; look at it in the PACS"):
        glance(written(built, OutputKind.SEGMENTATION), None)
    with pytest.raises(FatalError, match="is no image; --picture is for SEG"):
        glance(written(built, OutputKind.REPORT), None)


def test_the_command_writes_it_for_us_alone(tmp_path: Path) -> None:
    """As PNG, noted in the audit trail; what retention freed is said to be."""
    built = MATRIX["axial"](tmp_path / "source")
    (content,) = [m.content for m in make(built.context, built.reading, KINDS) if m.kind is OutputKind.KEY_IMAGES][:1]
    site = configured(tmp_path)
    (digest,) = Ledger(tmp_path / "data", site.engine).completed(content, kinds=[OutputKind.KEY_IMAGES])
    picture = tmp_path / "seen.png"
    command = ["outputs", "show", "1", "--config", str(tmp_path), "--picture", str(picture)]
    told = CliRunner().invoke(app, command)
    assert told.exit_code == 0, told.output
    assert np.array_equal(np.asarray(Image.open(picture)), pydicom.dcmread(BytesIO(content)).pixel_array)
    assert picture.stat().st_mode & 0o077 == 0
    assert "outputs show --picture" in site.trail.chain.path.read_text()
    site.spool.path(digest).unlink()
    refused = CliRunner().invoke(app, command)
    assert (refused.exit_code, "is freed or damaged" in refused.output) == (1, True)
    assert CliRunner().invoke(app, ["outputs", "show", "9", "--config", str(tmp_path)]).exit_code == 1
    site.engine.dispose()
