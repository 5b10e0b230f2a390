"""A key slice as a picture: source, outline, tumour probability and uncertainty, with what they mean."""

from dataclasses import dataclass
from textwrap import wrap

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from daemon.imaging.reading import Reading
from daemon.imaging.volume import Grid
from daemon.results import wording
from daemon.results.context import ResultContext
from daemon.results.outlines import outlines
from daemon.results.sentence import conclusion
from daemon.results.views import (
    CIVIDIS,
    INFERNO,
    SUV_WINDOW,
    Backdrop,
    Colours,
    Pixels,
    View,
    backdrop,
    coloured,
    laid,
    letters,
)

SIDE = 1024
# Sky blue stands out from grey, from both colour maps, and for every kind of colour vision (Okabe and Ito 2008).
OUTLINE = (86, 180, 233)
_WHITE, _AMBER, _FAINT = (255, 255, 255), (230, 159, 0), (170, 170, 170)
_BANNER, _CAPTION, _PANEL = 52, 34, (512, 410)
_BOX = (412, 366)
_TEXT, _SMALL, _CAPTION_TEXT = 24, 20, 18
_LINE_CHARACTERS, _LINES = 90, 3
_RULERS_MM, _RULER_PIXELS = (50, 20, 10, 5), 84
# The outline of PET lies on a hot spot; black on both sides keeps it apart from all colours.
_LINE, _CASING = 3, 7


@dataclass(frozen=True, kw_only=True)
class KeySlice:
    """A slice to look at, and why."""

    index: int
    title: str


def key_slices(reading: Reading, most: int) -> tuple[KeySlice, ...]:
    """Return the largest cross-section of each of the largest lesions, or without any the likeliest slice."""
    lesions = reading.findings.lesions
    if not lesions:
        likeliest = int(reading.probability.max(axis=(1, 2)).argmax())
        return (KeySlice(index=likeliest, title="No lesion outlined; slice of the highest tumour probability"),)
    return tuple(KeySlice(index=n.key_slice, title=wording.measured(n, len(lesions))) for n in lesions[:most])


def place() -> tuple[int, int]:
    """Return where the panel with the outline has its top left corner, (x, y) in pixels."""
    return 8, _BANNER + _CAPTION


def outline_view(context: ResultContext, index: int) -> View:
    """Return the slice as the panels show it."""
    return View.fitted(context.source.volume.grid, index, _BOX)


def draw(context: ResultContext, reading: Reading, key: KeySlice) -> Pixels:
    """Return the picture, RGB (1024, 1024, 3); nothing in it names the patient."""
    view = outline_view(context, key.index)
    grid = context.source.volume.grid
    beneath = backdrop(context, view)
    probability = view.of_slice(reading.probability, grid)
    doubt = view.of_slice(uncertainty(reading), grid)
    canvas = Image.new("RGB", (SIDE, SIDE))
    pen = ImageDraw.Draw(canvas)
    pen.fontmode = "L"
    bannered(pen, context, (SIDE, _BANNER - 6), 30)
    hot = None if beneath.fused is beneath.alone else (INFERNO, SUV_WINDOW[1])
    lined = outlined(beneath, view, reading.labels[key.index] > 0, context)
    where = "" if hot is None else " on PET (SUV) and CT"
    caption = f"Outline{where}, blue line" if (reading.labels[key.index] > 0).any() else f"No outline{where}"
    _panel(canvas, (0, 0), (caption, lined, hot))
    _panel(canvas, (1, 0), (f"Source, {beneath.window}", beneath.alone, None))
    _panel(canvas, (0, 1), ("Tumour probability", laid(beneath.quiet, probability, INFERNO), (INFERNO, 1)))
    _panel(canvas, (1, 1), ("Uncertainty (entropy)", laid(beneath.quiet, doubt, CIVIDIS), (CIVIDIS, 1)))
    for column in (0, 1):
        oriented(pen, context.source.volume.grid, (column * _PANEL[0] + place()[0], place()[1]), view.size)
    _ruler(pen, view)
    _footer(pen, context, key)
    return np.asarray(canvas, dtype=np.uint8)


def uncertainty(reading: Reading) -> NDArray[np.float32]:
    """Return the predictive entropy of each voxel in units of ln 2: 0 is sure, 1 knows nothing."""
    return np.asarray(np.clip(reading.entropy / np.float32(np.log(2)), 0, 1), dtype=np.float32)


def outlined(beneath: Backdrop, view: View, mask: NDArray[np.bool_], context: ResultContext) -> Pixels:
    """Return the slice with the mask's edge drawn over it."""
    picture = Image.fromarray(beneath.fused)
    pen = ImageDraw.Draw(picture)
    lines = [view.corners(line, context.source.volume.grid) for line in outlines(mask)]
    for width, colour in ((_CASING, (0, 0, 0)), (_LINE, OUTLINE)):
        for line in lines:
            pen.line([(float(x), float(y)) for x, y in line], fill=colour, width=width, joint="curve")
    return np.asarray(picture, dtype=np.uint8)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def bannered(pen: ImageDraw.ImageDraw, context: ResultContext, size: tuple[int, int], letter: int) -> None:
    """Write the caution over a picture, in a bar of `size` (width, height) at its top left."""
    pen.rectangle((0, 0, *size), fill=_AMBER)
    said = wording.caution(research_use=context.research_use)
    pen.text((size[0] / 2, size[1] / 2), said, fill=(0, 0, 0), font=_font(letter), anchor="mm")


def captioned(pen: ImageDraw.ImageDraw, said: str, middle: tuple[int, int]) -> None:
    """Write a line whose left end has its `middle` there."""
    pen.fontmode = "L"
    pen.text(middle, said, fill=_WHITE, font=_font(_CAPTION_TEXT), anchor="lm")


def _panel(canvas: Image.Image, where: tuple[int, int], what: tuple[str, Pixels, tuple[Colours, float] | None]) -> None:
    """Draw one of four panels, at (column, row): its caption, its picture, and its scale where it has one."""
    caption, pixels, scale = what
    left, top = where[0] * _PANEL[0] + place()[0], where[1] * _PANEL[1] + place()[1]
    pen = ImageDraw.Draw(canvas)
    pen.text((left, top - _CAPTION / 2 - 1), caption, fill=_WHITE, font=_font(_TEXT), anchor="lm")
    canvas.paste(Image.fromarray(pixels), (left, top))
    if scale is None:
        return
    scaled(canvas, (left + _BOX[0] + 14, top + 60), *scale)


def scaled(canvas: Image.Image, corner: tuple[int, int], colours: Colours, most: float) -> None:
    """Draw a scale from 0 to `most` whose bar has its top left `corner` there; it is 84 wide and 240 high."""
    pen = ImageDraw.Draw(canvas)
    x, y = corner
    bar = coloured(np.linspace(1, 0, 240, dtype=np.float32)[:, None].repeat(18, axis=1), colours)
    canvas.paste(Image.fromarray(bar), (x, y))
    pen.rectangle((x - 1, y - 1, x + 18, y + 240), outline=_FAINT)
    for share in (0, 0.5, 1):
        text = f"{share * most:g}"
        pen.text((x + 26, y + 240 * (1 - share)), text, fill=_WHITE, font=_font(_SMALL), anchor="lm")


def oriented(pen: ImageDraw.ImageDraw, grid: Grid, corner: tuple[int, int], size: tuple[int, int]) -> None:
    """Write at a slice's four edges where they lie in the patient; `corner` is its top left, `size` (width, height)."""
    (left, top), (width, height) = corner, size
    places = ((left + 4, top + height / 2, "lm"), (left + width - 4, top + height / 2, "rm"),
              (left + width / 2, top + 2, "mt"), (left + width / 2, top + height - 2, "mb"))  # fmt: skip
    for letter, (x, y, anchor) in zip(letters(grid), places, strict=True):
        pen.text((x, y), letter, fill=_AMBER, font=_font(_TEXT), anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))


def _ruler(pen: ImageDraw.ImageDraw, view: View) -> None:
    x, y = place()[0] + _BOX[0] + 14, place()[1] + _BOX[1] - 14
    mm = next((mm for mm in _RULERS_MM if mm / view.mm <= _RULER_PIXELS), _RULERS_MM[-1])
    x, length = x - 6, mm / view.mm
    pen.line((x, y, x + length, y), fill=_WHITE, width=3)
    for end in (x, x + length):
        pen.line((end, y - 6, end, y + 6), fill=_WHITE, width=3)
    pen.text((x, y - 10), f"{mm / 10:g} cm", fill=_WHITE, font=_font(_SMALL), anchor="lb")


def _footer(pen: ImageDraw.ImageDraw, context: ResultContext, key: KeySlice) -> None:
    y = _BANNER + 2 * _PANEL[1] + 4
    count = context.source.volume.grid.size[0]
    said = conclusion(context.findings)
    for line in wrap(said, _LINE_CHARACTERS, max_lines=_LINES, placeholder=" ... more in the report"):
        pen.text((8, y), line, fill=_WHITE, font=_font(_TEXT))
        y += 29
    pen.text((8, y), f"Slice {key.index + 1} of {count}. {key.title}", fill=OUTLINE, font=_font(_TEXT))
    ref = context.bundle.ref
    made = f"{ref.name} {ref.version}, Overread {context.software_version}"
    pen.text((8, SIDE - 6), made, fill=_FAINT, font=_font(_SMALL), anchor="lb")
