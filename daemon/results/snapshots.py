"""One slice of a reading as pictures of its own, each with the caution burned in: outline, heat map and the rest."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from daemon.imaging.reading import Reading
from daemon.results.context import ResultContext
from daemon.results.picture import bannered, captioned, oriented, outlined, scaled, uncertainty
from daemon.results.views import CIVIDIS, INFERNO, Colours, Pixels, View, backdrop, laid

_SIDE, _BANNER, _SCALE = 512, 34, 84
ACTIVATION = "What the tumour probability comes from (class activation), 0 to 1"
_FLOOR = -20.0  # a logit that is 0 as a probability


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot:
    """RGB `pixels` (546, 596, 3): what they show by `name`, and in words."""

    name: str
    title: str
    pixels: Pixels


@dataclass(frozen=True, kw_only=True)
class Sight:
    """Slice `index`; `placed` where it is known how it lies in the patient, `whole` with what full readings have."""

    index: int
    placed: bool
    whole: bool


def snapshots(context: ResultContext, reading: Reading, sight: Sight) -> tuple[Snapshot, ...]:
    """Return the pictures: overlay and heat map, and of a `whole` reading uncertainty and activation map too."""
    grid = context.source.volume.grid
    view = View.fitted(grid, sight.index, (_SIDE, _SIDE))
    beneath = backdrop(context, view)
    mask = reading.labels[sight.index] > 0
    drawn: list[tuple[str, str, Pixels, Colours | None]] = [
        ("overlay", "Outline" if mask.any() else "The image; nothing is outlined",
         outlined(beneath, view, mask, context), None),
        ("heat-map", "Tumour probability of each place, 0 to 1",
         laid(beneath.quiet, view.of_slice(reading.probability, grid), INFERNO), INFERNO),
    ]  # fmt: skip
    if sight.whole:
        doubt = view.of_slice(uncertainty(reading), grid)
        drawn += [
            ("uncertainty", "Uncertainty of each place (entropy), 0 sure to 1",
             laid(beneath.quiet, doubt, CIVIDIS), CIVIDIS),
            ("activation", ACTIVATION, laid(beneath.quiet, _activation(reading, view), INFERNO), INFERNO),
        ]  # fmt: skip
    return tuple(
        Snapshot(name=name, title=title, pixels=_framed(context, (shown, colours), view, sight))
        for name, title, shown, colours in drawn
    )


def activated(context: ResultContext, reading: Reading, index: int) -> Pixels:
    """Return what the tumour probability comes from over a slice that lies in its place, with what it is below."""
    view = View.fitted(context.source.volume.grid, index, (_SIDE, _SIDE))
    shown = laid(backdrop(context, view).quiet, _activation(reading, view), INFERNO)
    picture = _framed(context, (shown, INFERNO), view, Sight(index=index, placed=True, whole=True))
    canvas = Image.new("RGB", (picture.shape[1], picture.shape[0] + _BANNER))
    canvas.paste(Image.fromarray(picture))
    captioned(ImageDraw.Draw(canvas), ACTIVATION, (8, picture.shape[0] + _BANNER // 2))
    return np.asarray(canvas, dtype=np.uint8)


def _activation(reading: Reading, view: View) -> NDArray[np.float32]:
    logits = view.sample(reading.activation, _FLOOR)
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * logits), dtype=np.float32)


def _framed(context: ResultContext, shown: tuple[Pixels, Colours | None], view: View, sight: Sight) -> Pixels:
    pixels, colours = shown
    canvas = Image.new("RGB", (_SIDE + _SCALE, _SIDE + _BANNER))
    pen = ImageDraw.Draw(canvas)
    bannered(pen, context, (_SIDE + _SCALE, _BANNER - 2), 22)
    width, height = view.size
    corner = (_SIDE - width) // 2, _BANNER + (_SIDE - height) // 2
    canvas.paste(Image.fromarray(pixels), corner)
    if sight.placed:
        oriented(pen, context.source.volume.grid, corner, view.size)
    if colours is not None:
        scaled(canvas, (_SIDE + 10, _BANNER + (_SIDE - 240) // 2), colours, 1)
    return np.asarray(canvas, dtype=np.uint8)
