"""OHIF in headless Chromium, driven by clicks as a reader drives it; what it holds and draws is read back."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tests.peers import need

OHIF = Path(__file__).parents[1] / "build/ohif"
# Rendering without a graphics card; root may not have Chromium's sandbox.
OPTIONS = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")
WIDTH, HEIGHT = 1180, 820
# A machine that does much else needs a minute for what takes three seconds alone.
PATIENCE_MS = 180_000
# Nobody skips the tour of the first visit; the frame of a PDF has no storage.
TOUR = "try { localStorage.setItem('shownTours', '[\"basicViewerTour\"]') } catch {}"

_SETS = "(window.services?.displaySetService?.getActiveDisplaySets() ?? [])"
_VIEWPORTS = "(window.cornerstone?.getRenderingEngines()[0]?.getViewports() ?? [])"
_SEGMENTATIONS = "(window.services?.segmentationService?.getSegmentations() ?? [])"
_OPENED = f"count => {_SETS}.length === count && {_VIEWPORTS}.some(one => one.getCurrentImageId?.())"
_SEGMENTED = f"{_SEGMENTATIONS}.some(one => one.representationData?.Labelmap)"
# Of each slice of the label map that holds something: where it lies, and which of its pixels do.
_LABELLED = f"""() => {_SEGMENTATIONS}[0].representationData.Labelmap.imageIds.map(id => {{
    const {{cache, metaData}} = window.cornerstone, image = cache.getImage(id);
    const plane = metaData.get('imagePlaneModule', image.referencedImageId), at = [];
    image.voxelManager.getScalarData().forEach((label, index) => {{ if (label) at.push(index); }});
    return {{at: at.join(' '), columns: plane.columns, origin: [...plane.imagePositionPatient],
        across: [...plane.rowCosines].map(part => part * plane.columnPixelSpacing),
        down: [...plane.columnCosines].map(part => part * plane.rowPixelSpacing)}};
}}).filter(slice => slice.at.length)"""
# Goes to a point in every viewport with an outline, shows or hides it, and waits for two pictures of the screen.
_SHOW = f"""async ([point, visible]) => {{
    const {{segmentationId}} = {_SEGMENTATIONS}[0], tools = window.cornerstoneTools.segmentation;
    for (const viewport of {_VIEWPORTS}) {{
        if (!tools.state.getSegmentationRepresentations(viewport.id)?.length) continue;
        viewport.jumpToWorld(point);
        tools.config.visibility.setSegmentationRepresentationVisibility(viewport.id, {{segmentationId}}, visible);
        viewport.render();
    }}
    for (let n = 0; n < 2; n++) await new Promise(requestAnimationFrame);
}}"""
_PLACES = f"""([points, id]) => {{
    const viewport = {_VIEWPORTS}.find(one => one.id === id), box = viewport.element.getBoundingClientRect();
    const places = points.map(point => viewport.worldToCanvas(point)).map(([x, y]) => [x + box.x, y + box.y]);
    return {{places, box: [box.x, box.y, box.width, box.height]}};
}}"""
_SHA256 = "async values => [...new Uint8Array(await crypto.subtle.digest('SHA-256', values))]"
_PIXELS = f"""() => ({_SHA256})(
    window.cornerstone.cache.getImage({_VIEWPORTS}[0].getCurrentImageId()).getPixelData())"""
# All voxels of a map, once it is loaded, as OHIF keeps them.
_MAP = f"""() => window.cornerstone.cache
    .getVolume({_SETS}.find(one => one.Modality === 'PMAP').displaySetInstanceUID)"""
_MAPPED = f"""() => {{
    const found = ({_MAP})().voxelManager.getCompleteScalarDataArray();
    return [found.constructor.name, [...found]];
}}"""
_PDF = f"""async () => {{
    const address = document.querySelector('object[type="application/pdf"]').data;
    return ({_SHA256})(await (await fetch(address)).arrayBuffer());
}}"""


class Viewer:
    """OHIF at `url` with one study open; pictures of it go to a folder."""

    def __init__(self, page: Page, url: str, pictures: Path) -> None:
        self.page = page
        self.url = url
        self._pictures = pictures
        self._opened: tuple[str, str] | None = None

    def open(self, study: str, objects: int, mode: str = "viewer") -> None:
        """Open a study of so many series, unless it is open."""
        if self._opened != (study, mode):
            self._opened = (study, mode)
            self.page.goto(f"{self.url}/{mode}?StudyInstanceUIDs={study}")
            self.page.wait_for_function(_OPENED, arg=objects)

    def sets(self) -> dict[str, bool]:
        """Return what is listed, by modality, and whether OHIF can open it."""
        listed = self.page.evaluate(f"{_SETS}.map(one => [one.Modality, !one.unsupported])")
        return dict(map(tuple, listed))

    def choose(self, modality: str) -> None:
        """Double-click what is listed of a modality."""
        name = self.page.evaluate(
            f"modality => {_SETS}.find(one => one.Modality === modality).displaySetInstanceUID", modality
        )
        item = self.page.locator(f'[id="thumbnail-{name}"]').first
        item.scroll_into_view_if_needed()
        item.dblclick()
        if modality == "SEG":
            self.page.wait_for_function(_SEGMENTED)

    def overlay(self, viewport: int, name: str) -> None:
        """Lay the segmentation over a viewport by its menu of layers."""
        self.page.locator('[data-cy="viewport-pane"]').nth(viewport).click()
        self.page.locator(f'[data-cy="dataOverlayMenu-{name}-btn"]').click()
        self.page.get_by_text("Segmentation", exact=True).first.click()
        self.page.get_by_role("combobox").first.click()
        self.page.get_by_role("option").first.click()
        self.page.keyboard.press("Escape")
        self.page.wait_for_function(_SEGMENTED)

    def outlined(self) -> list[NDArray[np.float64]]:
        """Return the centres of the voxels that the label map holds, in mm of the patient, by slice."""
        return [_centres(one) for one in self.page.evaluate(_LABELLED)]

    def drawn(self, points: NDArray[np.float64], viewport: str) -> bool:
        """Return whether just these points of one plane change colour in a viewport when the outline is shown."""
        where = points[len(points) // 2].tolist()
        shots = []
        for visible in (False, True):
            self.page.evaluate(_SHOW, [where, visible])
            shots.append(_screen(self.page))
        found = self.page.evaluate(_PLACES, [points.tolist(), viewport])
        return _fits(np.asarray(found["places"]), found["box"], *shots)

    def text(self, holds: str) -> str:
        """Return the text that the viewports show, once it holds something."""
        grid = self.page.locator('[data-cy="viewport-grid"]')
        grid.filter(has_text=holds).wait_for()
        return str(grid.inner_text())

    def pixels(self, rows: int) -> str:
        """Return the SHA-256 of the picture that is shown, once one of so many rows is."""
        self.page.wait_for_function(
            f"rows => window.cornerstone.cache.getImage({_VIEWPORTS}[0]?.getCurrentImageId?.())?.rows === rows",
            arg=rows,
        )
        return bytes(self.page.evaluate(_PIXELS)).hex()

    def map(self) -> tuple[str, NDArray[np.float64]]:
        """Return of what kind the numbers of the map are, and all of them, once it is loaded."""
        self.page.wait_for_function(f"() => ({_MAP})()?.loadStatus?.loaded")
        kind, values = self.page.evaluate(_MAPPED)
        return str(kind), np.asarray(values)

    def pdf(self) -> str:
        """Return the SHA-256 of the document that is shown."""
        self.page.locator('object[type="application/pdf"]').wait_for()
        return bytes(self.page.evaluate(_PDF)).hex()

    def shows(self, colour: tuple[int, int, int]) -> int:
        """Return how many pixels of the screen have a colour."""
        return int((np.abs(_screen(self.page) - np.asarray(colour)) < 4).all(axis=2).sum())

    def picture(self, name: str) -> None:
        """Keep what the screen shows."""
        self.page.mouse.move(WIDTH / 2, 2)
        self._pictures.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=self._pictures / f"ohif-{name}.jpg", quality=85)


@contextmanager
def viewing(url: str, pictures: Path) -> Iterator[Viewer]:
    """Open a browser on OHIF at `url`; skip the test where there is none."""
    need("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=OPTIONS)
        context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT})
        context.set_default_timeout(PATIENCE_MS)
        context.add_init_script(TOUR)
        yield Viewer(context.new_page(), url, pictures)
        browser.close()


def need_ohif() -> None:
    """Skip the test where the viewer's files are not."""
    if not any(OHIF.glob("OHIF-*")):
        pytest.skip("OHIF is not there; `make setup` fetches it where npm is installed")


def _centres(plane: dict[str, Any]) -> NDArray[np.float64]:
    rows, columns = np.divmod(np.asarray(plane["at"].split(), dtype=int)[:, None], plane["columns"])
    points: NDArray[np.float64] = plane["origin"] + columns * plane["across"] + rows * plane["down"]
    return points


def _screen(page: Page) -> NDArray[np.int16]:
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"), dtype=np.int16)


def _fits(places: NDArray[np.float64], box: list[float], hidden: NDArray[np.int16], shown: NDArray[np.int16]) -> bool:
    """Return whether the pixels that differ within a box are those around the places, and all of these."""
    left, top, width, height = map(round, box)
    differs = np.abs(hidden - shown).max(axis=2) > 6
    at = np.argwhere(differs[top : top + height, left : left + width])[:, ::-1] + (left, top)
    if not len(at):
        return False
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    voxel = np.where(apart > 0, apart, np.inf).min(axis=1).max()
    reach = np.linalg.norm(at[:, None] + 0.5 - places[None], axis=2)
    return bool(reach.min(axis=1).max() <= voxel + 3 and (reach.min(axis=0) <= 1.5).mean() > 0.95)
