"""One look for all pictures: figures without global state, written as PNG."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from training.evaluation.values import Measure

INK, GREY, FAINT = "#1f2933", "#7b8794", "#d9dee3"
# Okabe and Ito's colours, told apart with any colour vision.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


def figure(columns: int = 1, size: tuple[float, float] = (5.2, 4.0)) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure of `columns` axes of `size` inches each."""
    made = Figure(figsize=(size[0] * columns, size[1]), layout="constrained")
    FigureCanvasAgg(made)
    axes = np.atleast_1d(made.subplots(1, columns))
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["bottom", "left"]].set_color(GREY)
        axis.tick_params(colors=INK, labelsize=9)
        axis.grid(visible=True, color=FAINT, linewidth=0.6)
        axis.set_axisbelow(True)
    return made, list(axes)


def name(axis: Axes, title: str, x: str, y: str) -> None:
    """Set an axis' texts."""
    axis.set_title(title, fontsize=11, color=INK, loc="left")
    axis.set_xlabel(x, fontsize=9.5, color=INK)
    axis.set_ylabel(y, fontsize=9.5, color=INK)


def diagonal(axis: Axes, meaning: str = "agreement") -> None:
    """Draw the diagonal of the unit square and what it means."""
    axis.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label=meaning)
    axis.set_xlim(-0.02, 1.02)
    axis.set_ylim(-0.02, 1.02)


def legend(axis: Axes, place: str = "best") -> None:
    """Draw the legend."""
    axis.legend(fontsize=8.5, frameon=False, loc=place)


def plain_log(axis: Axes, *, x: bool, y: bool) -> None:
    """Make axes logarithmic with ordinary numbers at decades and halves of them."""
    for wanted, log in ((x, axis.xaxis), (y, axis.yaxis)):
        if wanted:
            log.axes.set_xscale("log") if log is axis.xaxis else log.axes.set_yscale("log")
            log.set_major_locator(LogLocator(subs=(1, 3)))
            log.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            log.set_minor_formatter(NullFormatter())


def bars(axis: Axes, rows: Sequence[tuple[str, Measure]], first: str = COLOURS[0]) -> None:
    """Draw numbers with their intervals as a forest plot, top to bottom; the first is emphasised."""
    for y, (_, measure) in enumerate(rows):
        if measure.value is None:
            continue
        colour = first if y == 0 else GREY
        if measure.low is not None and measure.high is not None:
            axis.plot([measure.low, measure.high], [y, y], color=colour, linewidth=2, solid_capstyle="butt")
        axis.plot([measure.value], [y], "o", color=colour, markersize=6)
        axis.annotate(
            f"{measure.value:.2f}", (measure.value, y), (0, 7), textcoords="offset points", ha="center", fontsize=8.5
        )
    axis.set_yticks(range(len(rows)), [label for label, _ in rows])
    axis.set_ylim(len(rows) - 0.5, -0.6)


def save(made: Figure, path: Path) -> Path:
    """Write a figure as PNG, the same bytes each time."""
    made.savefig(path, dpi=144, metadata={"Software": None})
    return path
