"""How every picture looks: the same colours for the same things, a legend, a caption that names the data."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any, TypeAlias

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

# Okabe and Ito (2008): told apart by colour-blind readers.
TRUTH = "#56B4E9"
PREDICTION = "#E69F00"
AGREE = "#009E73"
MISSED = "#0072B2"
EXTRA = "#D55E00"
RIGHT, WRONG = "#00734f", "#b03a00"
INK = "#222222"
RUNS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7f7f7f")
HEAT = "inferno"
DPI = 110
# Inches above and below the axes: title; legend and caption, or caption alone.
HEAD, FOOT, CAPTION_ONLY = 0.4, 0.75, 0.45

Plane: TypeAlias = NDArray[np.float32]
Mask: TypeAlias = NDArray[np.bool_]
Axes: TypeAlias = Any


def figure(
    rows: int, columns: int, cell: tuple[float, float] = (3.2, 3.4), *, foot: float = FOOT
) -> tuple[Figure, Any]:
    """Return a figure of `rows` x `columns` cells (inches) with room for title and foot, and its axes, 2-D."""
    width, height = columns * cell[0], rows * cell[1] + HEAD + foot
    foot /= height
    layout = ConstrainedLayoutEngine(rect=(0, foot, 1, 1 - foot))
    drawn = Figure(figsize=(width, height), dpi=DPI, layout=layout)
    return drawn, drawn.subplots(rows, columns, squeeze=False)


def finish(drawn: Figure, title: str, caption: str, keys: Sequence[Line2D | Patch] = ()) -> None:
    """Add title, legend and caption; long ones are broken to the picture's width."""
    width, height = drawn.get_size_inches()
    drawn.suptitle("\n".join(wrap(title, int(width * 9))), fontsize=13, fontweight="bold", color=INK)
    across = max(1, min(len(keys), int(width / 1.7)))
    below = 0.08 + 0.16 * len(wrap(caption, int(width * 14)))
    if keys:
        place = {"loc": "lower center", "bbox_to_anchor": (0.5, below / height)}
        drawn.legend(handles=list(keys), ncols=across, frameon=False, fontsize=9, **place)
    text = "\n".join(wrap(caption, int(width * 14)))
    drawn.text(0.5, 0.06 / height, text, ha="center", va="bottom", fontsize=8.5, color="#555555")


def save(drawn: Figure, path: Path) -> Path:
    """Write the picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(path, dpi=DPI)
    return path


def line_key(colour: str, label: str, style: str = "-") -> Line2D:
    """Return a legend entry for a contour."""
    return Line2D([], [], color=colour, linestyle=style, linewidth=2, label=label)


def patch_key(colour: str, label: str) -> Patch:
    """Return a legend entry for an area."""
    return Patch(facecolor=colour, label=label)


OUTLINE_KEYS = (line_key(TRUTH, "truth", "--"), line_key(PREDICTION, "prediction"))


def backdrop(axis: Axes, image: Plane, aspect: float = 1.0) -> None:
    """Show a slice in grey, its window from the 1st to the 99.7th percentile."""
    low, high = np.percentile(image, (1, 99.7))
    axis.imshow(image, cmap="gray", vmin=low, vmax=max(float(high), float(low) + 1e-6), aspect=aspect)
    bare(axis)


def inputs(axis: Axes, channels: Plane, aspect: float = 1.0) -> None:
    """Show all channels of a slice: one in grey; of PET and CT the uptake in heat over grey CT."""
    if len(channels) == 1:
        backdrop(axis, channels[0], aspect)
        return
    backdrop(axis, channels[-1], aspect)
    uptake = channels[0]
    heat(axis, uptake / max(float(np.percentile(uptake, 99.8)), 1e-6), cmap="hot")


def heat(axis: Axes, values: Plane, *, top: float = 1.0, cmap: str = HEAT, strength: float = 0.8) -> Any:  # noqa: ANN401  # matplotlib is untyped
    """Lay a map from 0 to `top` over the slice, clear where it is low; return it for a colour bar."""
    shown = np.clip(values / top, 0, 1)
    # Opacity per pixel, so that the anatomy stays visible where nothing is claimed.
    return axis.imshow(values, cmap=cmap, vmin=0, vmax=top, alpha=strength * np.sqrt(shown), interpolation="nearest")


def areas(axis: Axes, layers: Sequence[tuple[Mask, str, float]]) -> None:
    """Fill masks with colours and opacities."""
    for mask, colour, opacity in layers:
        painted = np.zeros((*mask.shape, 4), dtype=np.float32)
        painted[mask] = to_rgba(colour, opacity)
        axis.imshow(painted, interpolation="nearest")


def outlines(axis: Axes, truth: Mask | None, found: Mask) -> None:
    """Draw the truth dashed and the prediction solid."""
    if truth is not None and truth.any():
        axis.contour(truth, [0.5], colors=TRUTH, linewidths=1.6, linestyles="dashed")
    if found.any():
        axis.contour(found, [0.5], colors=PREDICTION, linewidths=1.4)


def bare(axis: Axes) -> None:
    """Take away ticks and frame."""
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)


def plain(axis: Axes) -> None:
    """Leave a chart the axes it needs and a faint grid."""
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    axis.grid(visible=True, color="#e5e5e5", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=9, colors=INK)
