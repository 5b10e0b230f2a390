"""Pictures of a comparison: curves over each other, differences with intervals, accuracy against cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from training.compare.cohort import Cohort
from training.compare.contrast import Contrast, Estimate
from training.compare.costs import Cost
from training.explain import style
from training.explain.cases import data_words

_DASHES = ("-", "--", "-.", ":")
_MARKERS = "ox+^sdv"


@dataclass(frozen=True, kw_only=True)
class _Look:
    """How a run is drawn, and its figures for the legend."""

    name: str
    colour: str
    dash: str
    marker: str
    figures: Mapping[str, Estimate]

    def told(self, metric: str) -> str:
        """Return a legend entry with the figure."""
        found = self.figures.get(metric)
        return self.name if found is None else f"{self.name}, {found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def curves(cohort: Cohort, summaries: Mapping[str, Mapping[str, Estimate]]) -> Figure:
    """Return ROC, precision against recall, the share of studies above each Dice, and Dice study by study."""
    drawn, axes = style.figure(2, 2, cell=(5.2, 4.2))
    for axis in axes.flat:
        style.plain(axis)
    for look in _looks(cohort, summaries):
        _detection(axes[0], cohort, look)
        _outlines(axes[1], cohort, look)
    words = (
        ("ROC: sensitivity against false alarms", "1 - specificity", "sensitivity"),
        ("precision against recall", "recall (sensitivity)", "precision"),
        ("share of studies with at least this Dice", "Dice", "share of studies"),
        ("Dice study by study, ordered by the first run", "study", "Dice"),
    )
    for axis, (title, across, up) in zip(axes.flat, words, strict=True):
        axis.set(xlabel=across, ylabel=up, ylim=(-0.02, 1.02))
        axis.set_title(title, fontsize=10)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=8, frameon=True, framealpha=0.85, edgecolor="none", loc="lower left")
        else:
            axis.text(0.5, 0.5, "the data have no such truth", ha="center", transform=axis.transAxes, color="#777777")
    axes[0, 0].plot([0, 1], [0, 1], color="#aaaaaa", linewidth=1, zorder=1)
    for axis in (axes[0, 0], axes[1, 1]):
        if axis.get_legend():
            axis.get_legend().set_loc("lower right")
    keys = [style.line_key(look.colour, look.name, look.dash) for look in _looks(cohort, summaries)]
    style.finish(
        drawn, "Runs over the same studies", f"{data_words(cohort.sources)}; {len(cohort.studies)} studies", keys
    )
    return drawn


def _looks(cohort: Cohort, summaries: Mapping[str, Mapping[str, Estimate]]) -> list[_Look]:
    return [
        _Look(
            name=name,
            colour=style.RUNS[i % len(style.RUNS)],
            dash=_DASHES[i % len(_DASHES)],
            marker=_MARKERS[i % len(_MARKERS)],
            figures=summaries[name],
        )
        for i, name in enumerate(cohort.runs)
    ]


def _detection(axes: Any, cohort: Cohort, look: _Look) -> None:  # noqa: ANN401  # matplotlib is untyped
    where = cohort.labelled
    label = cohort.tumour[where] == 1
    if label.all() or not label.any():
        return
    scores = cohort.runs[look.name].probability[where]
    false_alarms, sensitivity, _ = roc_curve(label, scores)
    axes[0].plot(false_alarms, sensitivity, look.dash, color=look.colour, label=look.told("ROC area"))
    precision, recall, _ = precision_recall_curve(label, scores)
    axes[1].plot(recall, precision, look.dash, color=look.colour, label=look.name, drawstyle="steps-post")


def _outlines(axes: Any, cohort: Cohort, look: _Look) -> None:  # noqa: ANN401  # matplotlib is untyped
    where = cohort.outlined(*cohort.runs)
    if not where.any():
        return
    dice = cohort.runs[look.name].dice[where]
    levels = np.linspace(0, 1, 201)
    shares = [(dice >= level).mean() for level in levels]
    axes[0].plot(levels, shares, look.dash, color=look.colour, label=look.told("Dice"))
    order = np.argsort(cohort.runs[next(iter(cohort.runs))].dice[where], kind="stable")
    studies = np.arange(1, dice.size + 1)
    axes[1].plot(studies, dice[order], look.marker, color=look.colour, fillstyle="none", label=look.name)


def differences(contrasts: Sequence[Contrast], sources: Sequence[str]) -> Figure:
    """Return every difference with its 95 % interval; filled where Holm's p is below .05."""
    drawn, axes = style.figure(1, 1, cell=(10.5, 0.42 * max(len(contrasts), 2) + 1.0), foot=style.CAPTION_ONLY)
    axis = axes[0, 0]
    style.plain(axis)
    places = np.arange(len(contrasts))[::-1]
    for place, contrast in zip(places, contrasts, strict=True):
        shown = contrast.ahead is not None
        colour = style.RUNS[list(dict.fromkeys(c.metric for c in contrasts)).index(contrast.metric)]
        axis.plot((contrast.low, contrast.high), (place, place), color=colour, linewidth=2)
        axis.plot(
            contrast.difference, place, "o", color=colour, markerfacecolor=colour if shown else "white", markersize=7
        )
        axis.annotate(
            f"p = {p_words(contrast.p_holm)}",
            (1.01, place),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=8.5,
        )
    axis.set_yticks(places, [f"{c.metric}: {c.first} - {c.second}" for c in contrasts])
    axis.set_ylim(-0.7, len(contrasts) - 0.3)
    reach = 1.1 * max([abs(end) for c in contrasts for end in (c.low, c.high) if np.isfinite(end)] + [0.005])
    axis.set_xlim(-reach, reach)
    axis.axvline(0, color=style.INK, linewidth=1)
    axis.set_xlabel("difference, right of 0 the first run is ahead", fontsize=9)
    caption = f"{data_words(sources)}; bars are 95 % intervals; a filled dot means p < .05 after Holm's adjustment"
    style.finish(drawn, "What differs, and how surely", caption)
    return drawn


def p_words(value: float) -> str:
    """Return p as a table shows it."""
    if np.isnan(value):
        return "n/a"
    return "< .001" if value < 0.001 else f"{value:.3f}"


def trade_off(
    costs: Mapping[str, Cost], summaries: Mapping[str, Mapping[str, Estimate]], sources: Sequence[str]
) -> Figure:
    """Return accuracy against size and against latency, a dot a run, whiskers 95 % intervals."""
    metric = next(m for m in ("Dice", "ROC area", "C-index", "sensitivity") if any(m in s for s in summaries.values()))
    drawn, axes = style.figure(1, 2, cell=(5.0, 3.8), foot=style.CAPTION_ONLY)
    for axis, (field, label) in zip(
        axes.flat, (("megabytes", "size in MB"), ("milliseconds", "ms a slice")), strict=True
    ):
        style.plain(axis)
        for place, name in enumerate(summaries):
            cost = getattr(costs[name], field) if name in costs else None
            estimate = summaries[name].get(metric)
            if cost is None or estimate is None:
                continue
            colour = style.RUNS[place % len(style.RUNS)]
            reach = [[max(estimate.value - estimate.low, 0)], [max(estimate.high - estimate.value, 0)]]
            axis.errorbar(cost, estimate.value, yerr=reach, fmt="o", color=colour, capsize=3, markersize=8)
            axis.annotate(
                name, (cost, estimate.value), xytext=(7, 6), textcoords="offset points", fontsize=9, color=colour
            )
        axis.set_xlabel(f"{label}, less is better", fontsize=9)
        axis.set_xlim(left=0)
        axis.margins(x=0.25)
    axes[0, 0].set_ylabel(metric, fontsize=9)
    style.finish(drawn, f"{metric} against cost", f"{data_words(sources)}; whiskers are 95 % intervals")
    return drawn
