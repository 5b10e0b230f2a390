"""The slice viewer's pictures are of the slice that is asked for, with its marks where the result has them."""

import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from daemon.imaging.suv import in_units
from daemon.imaging.volume import Grid
from daemon.results.views import CT_WINDOW, INFERNO, View, grey, laid
from daemon.web.planes import Cut, Plane
from daemon.web.slices import SIDE
from tests.consoles import Site, configured, console
from tests.holdings import Kept, filled

INNER = slice(40, -40)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Kept]]:
    """A running console over a PET/CT study with its results."""
    folder = tmp_path_factory.mktemp("site")
    house = configured(folder)
    kept = filled(house, folder / "study")
    with console(house) as site:
        yield site, kept


@pytest.fixture(scope="module")
def browser(place: tuple[Site, Kept]) -> httpx.Client:
    """A viewer who is logged in."""
    return place[0].browser("vera")


def series(kept: Kept, modality: str) -> str:
    """Return the address of a series."""
    source = kept.case.context.source if modality == "PT" else kept.case.context.others[0]
    return f"/studies/{kept.study}/series/{source.header.SeriesInstanceUID}"


def pixels(browser: httpx.Client, path: str, **query: str | float) -> NDArray[np.int16]:
    """Return a picture, RGB."""
    answer = browser.get(path, params=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "image/png"
    return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB"), dtype=np.int16)


def test_every_slice_is_the_one_of_the_volume(place: tuple[Site, Kept], browser: httpx.Client) -> None:
    """Slice by slice, ends too, the CT looks as the whole volume sampled at once does."""
    _, kept = place
    volume = kept.case.context.others[0].volume
    count = volume.grid.size[0]
    for index in (0, 1, count // 2, count - 1):
        view = View.fitted(volume.grid, index, (SIDE, SIDE))
        wanted = grey(view.of_slice(volume.voxels, volume.grid), *CT_WINDOW).astype(np.int16)
        found = pixels(browser, f"{series(kept, 'CT')}/slices/{index}")
        assert found.shape == wanted.shape
        # At the edges letters say where right, left, front and back are.
        assert np.abs(found - wanted)[INNER, INNER].max() <= 1, index


def upright(grid: Grid, plane: str, index: int) -> Grid:
    """Return one slice of an axial grid's volume across it, head up, right or front at the left."""
    (depth, rows, columns), (dz, dy, dx), (x, y, z) = grid.size, grid.spacing, grid.origin
    top = z + (depth - 1) * dz
    down, back, left = (0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)
    if plane == "coronal":
        return Grid(
            size=(1, depth, columns), spacing=(dy, dz, dx), origin=(x, y + index * dy, top), axes=(back, down, left)
        )
    return Grid(size=(1, depth, rows), spacing=(dx, dz, dy), origin=(x + index * dx, y, top), axes=(left, down, back))


@pytest.mark.parametrize("plane", ["coronal", "sagittal"])
def test_planes_across_are_of_the_volume(place: tuple[Site, Kept], browser: httpx.Client, plane: str) -> None:
    """Head up, in their true proportions, the CT and PET over it look as SimpleITK cuts them from the whole volume."""
    _, kept = place
    ct, pet = kept.case.context.others[0].volume, in_units("PET", kept.case.context.source)
    count = ct.grid.size[1 if plane == "coronal" else 2]
    for index in (0, count // 2, count - 1):
        view = View.fitted(upright(ct.grid, plane, index), 0, (SIDE, SIDE))
        found = pixels(browser, f"{series(kept, 'CT')}/slices/{index}", plane=plane)
        high, wide = found.shape[:2]
        assert high / wide == pytest.approx(extent(ct.grid, plane), rel=0.01)
        wanted = grey(view.sample(ct), *CT_WINDOW).astype(np.int16)
        assert np.abs(found - wanted)[INNER, INNER].max() <= 2, index
    middle = pet.grid.size[1 if plane == "coronal" else 2] // 2
    view = View.fitted(upright(pet.grid, plane, middle), 0, (SIDE, SIDE))
    hot = np.clip(view.sample(pet) / np.float32(7), 0, 1)
    wanted = laid(grey(view.sample(ct, -1000), *CT_WINDOW), hot, INFERNO, full=0.35).astype(np.int16)
    ct_uid = series(kept, "CT").rpartition("/")[2]
    found = pixels(browser, f"{series(kept, 'PT')}/slices/{middle}", plane=plane, outline="false", ct=ct_uid)
    # The two interpolate at the CT's edge in ways of their own.
    assert np.quantile(np.abs(found - wanted)[INNER, INNER], 0.98) <= 3
    assert browser.get(f"{series(kept, 'CT')}/slices/{count}", params={"plane": plane}).status_code == 404


def extent(grid: Grid, plane: str) -> float:
    """Return how much higher than wide a plane is, in mm."""
    wide = 2 if plane == "coronal" else 1
    return grid.size[0] * grid.spacing[0] / (grid.size[wide] * grid.spacing[wide])


@pytest.mark.parametrize("plane", ["coronal", "sagittal"])
def test_the_outline_is_in_every_plane(place: tuple[Site, Kept], browser: httpx.Client, plane: str) -> None:
    """It changes a slice exactly where the segmentation has voxels of it; the maps are there too."""
    _, kept = place
    mask = kept.case.labels > 0
    seen = mask[::-1].transpose(1, 0, 2) if plane == "coronal" else mask[::-1].transpose(2, 0, 1)
    key, empty = int(seen.sum(axis=(1, 2)).argmax()), int((~seen.any(axis=(1, 2))).argmax())
    path = f"{series(kept, 'PT')}/slices"
    full, without = (pixels(browser, f"{path}/{key}", plane=plane, outline=on) for on in ("true", "false"))
    changed, inside = np.argwhere((full != without).any(axis=2)), np.argwhere(seen[key])
    scale = np.array(full.shape[:2]) / seen.shape[1:]
    assert np.all(np.abs(changed.min(axis=0) - inside.min(axis=0) * scale) <= 4)
    assert np.all(np.abs(changed.max(axis=0) - (inside.max(axis=0) + 1) * scale) <= 4)
    bare, marked = (pixels(browser, f"{path}/{empty}", plane=plane, outline=on) for on in ("false", "true"))
    assert np.array_equal(bare, marked)
    for mark in ("doubt", "heat"):
        assert not np.array_equal(
            pixels(browser, f"{path}/{key}", plane=plane, outline="false", **{mark: "true"}), without
        )


@pytest.mark.parametrize("first", [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
def test_any_acquisition_is_cut_upright(first: tuple[int, int, int]) -> None:
    """Axial, coronal and sagittal stacks, tilted and turned round, give planes whose axes run as they are read."""
    tilt = np.deg2rad(20)
    turn = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    x, y, z = ((float(a), float(b), float(c)) for a, b, c in (turn @ np.eye(3))[list(first)] * [[1], [-1], [1]])
    grid = Grid(size=(4, 5, 6), spacing=(3.0, 1.0, 2.0), origin=(1.0, 2.0, 3.0), axes=(x, y, z))
    voxels = np.arange(4 * 5 * 6).reshape(grid.size)
    at = grid.points(np.argwhere(voxels >= 0))
    for plane, wanted in (("axial", (2, 1, 0)), ("coronal", (1, 2, 0)), ("sagittal", (0, 2, 1))):
        way = Cut.into(grid, Plane(plane))
        cut = way.grid(grid)
        for axis, patient, sign in zip(cut.axes, wanted, (1, 1 if plane == "axial" else -1, 1), strict=True):
            assert axis[patient] * sign == max(abs(v) for v in axis)
        slices = np.stack([way.slice(voxels, n) for n in range(cut.size[0])])
        assert np.allclose(cut.points(np.argwhere(slices >= 0)), at[slices.ravel()])


def test_the_outline_lies_where_the_segmentation_does(place: tuple[Site, Kept], browser: httpx.Client) -> None:
    """Marks change a picture exactly in slices with the outline, around it, and by their opacity."""
    _, kept = place
    path, mask = series(kept, "PT"), kept.case.labels > 0
    key = int(mask.sum(axis=(1, 2)).argmax())
    without = pixels(browser, f"{path}/slices/{key}", outline="false")
    faint, full = (pixels(browser, f"{path}/slices/{key}", opacity=opacity) for opacity in (50, 100))
    changed = np.argwhere((full != without).any(axis=2))
    scale = np.array(full.shape[:2]) / mask.shape[1:]
    inside = np.argwhere(mask[key])
    assert np.all(changed.min(axis=0) >= inside.min(axis=0) * scale - 4)
    assert np.all(changed.max(axis=0) <= (inside.max(axis=0) + 1) * scale + 4)
    assert 0 < np.abs(faint - without).sum() < np.abs(full - without).sum()
    assert np.array_equal(pixels(browser, f"{path}/slices/{key}", opacity=0), without)
    empty = int((~mask.any(axis=(1, 2))).argmax())
    assert np.array_equal(
        pixels(browser, f"{path}/slices/{empty}"), pixels(browser, f"{path}/slices/{empty}", outline="false")
    )


def test_window_fusion_and_uncertainty_change_the_picture(place: tuple[Site, Kept], browser: httpx.Client) -> None:
    """PET is dark on white and coloured over CT; a narrower window is harder; the uncertainty shows where asked for."""
    _, kept = place
    path = f"{series(kept, 'PT')}/slices/{kept.case.labels.any(axis=(1, 2)).argmax()}"
    alone = pixels(browser, path, outline="false")
    assert np.array_equal(alone[INNER, INNER, 0], alone[INNER, INNER, 2])
    assert alone[0, 0, 0] > 200
    fused = pixels(browser, path, outline="false", ct=series(kept, "CT").rpartition("/")[2])
    assert not np.array_equal(fused[..., 0], fused[..., 2])
    assert fused[0, 0, 0] < 50
    assert (pixels(browser, path, outline="false", low=0, high=0.5)[INNER, INNER] == 0).sum() > (
        alone[INNER, INNER] == 0
    ).sum()
    assert not np.array_equal(pixels(browser, path, outline="false", doubt="true"), alone)


def test_the_heat_map_is_of_the_tumour_probability(place: tuple[Site, Kept], browser: httpx.Client) -> None:
    """A slice is coloured by its probability, from none at 0; the page offers it."""
    _, kept = place
    index = int(kept.case.labels.any(axis=(1, 2)).argmax())
    path, grid = f"{series(kept, 'PT')}/slices/{index}", kept.case.context.source.volume.grid
    bare, hot = (pixels(browser, path, outline="false", heat=on) for on in ("false", "true"))
    chance = View.fitted(grid, index, (SIDE, SIDE)).of_slice(kept.case.reading.probability, grid)
    wanted = laid(bare.astype(np.uint8), np.clip(chance, 0, 1), INFERNO).astype(np.int16)
    assert np.abs(hot - wanted)[INNER, INNER].max() <= 2
    assert not np.array_equal(hot, bare)
    assert 'id="v-heat"' in browser.get(f"/studies/{kept.study}").text


def test_the_page_shows_a_slice_before_any_script_runs(place: tuple[Site, Kept], browser: httpx.Client) -> None:
    """The study page names a picture of what was read, which is there; the series tells its window."""
    _, kept = place
    text = browser.get(f"/studies/{kept.study}").text
    source = text.partition('<img src="')[2].partition('"')[0].replace("&amp;", "&")
    assert source.startswith(f"{series(kept, 'PT')}/slices/")
    assert browser.get(source).status_code == 200
    told = browser.get(f"{series(kept, 'PT')}/window").json()
    depth, rows, columns = kept.case.labels.shape
    planes = {"axial": depth, "coronal": rows, "sagittal": columns}
    assert told == {"count": depth, "low": 0.0, "high": 7.0, "native": "axial", "planes": planes}


def test_what_cannot_be_shown_is_said(place: tuple[Site, Kept], browser: httpx.Client) -> None:
    """No such slice or series is 404, no number 400; without log-in there is no picture."""
    site, kept = place
    path = series(kept, "CT")
    for wrong, status in ((f"{path}/slices/9999", 404), (f"{path}/slices/-1", 404), (f"{path}/slices/x", 400)):
        assert browser.get(wrong).status_code == status
    assert browser.get(f"/studies/{kept.study}/series/1.2/slices/0").status_code == 404
    assert browser.get(f"{path}/slices/0", params={"low": "nan", "high": "inf"}).status_code == 200
    assert site.browser().get(f"{path}/slices/0").status_code == 303
    told = [one for one in site.events() if one["event"] == "DICOM Instances Accessed"]
    assert [one["what"][0] for one in told] == [kept.study]


def test_damage_is_said_and_the_page_stays(tmp_path: Path) -> None:
    """Where files are gone the page is whole and the picture 404."""
    house = configured(tmp_path)
    kept = filled(house, tmp_path / "study")
    for path in (house.spool.root / "objects").glob("*/*"):
        path.unlink()
    with console(house) as site:
        browser = site.browser("vera")
        assert browser.get(f"/studies/{kept.study}").status_code == 200
        assert browser.get(f"{series(kept, 'CT')}/slices/3").status_code == 404
