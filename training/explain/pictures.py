"""Pictures of cases: balanced panels, the six-panel uncertainty picture, Grad-CAM by level, and the measures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from training.explain import style
from training.explain.cases import Case, Mask, Point, data_words
from training.explain.measure import Measure, Plane
from training.predictions import Prediction

# A voxel this sure is taken as certain: predictive entropy up to half of ln 2, so a probability from .89 or up to .11.
SURE_NATS = 0.5 * float(np.log(2))
# The middle of the heat scale, for legends.
EVIDENCE = "#dd513a"
# Pixels round what is marked, and the least that a zoomed picture shows.
MARGIN, LEAST = 14, 56


@dataclass(frozen=True, kw_only=True, eq=False)
class Slice:
    """The telling slice of a case, all maps (rows, columns); `channels` (channels, rows, columns); `truth` or None."""

    channels: Plane
    probability: Plane
    entropy: Plane
    mutual_information: Plane
    cam: Plane
    outline: Mask
    truth: Mask | None
    aspect: float

    @property
    def image(self) -> Plane:
        """Return the channel that outlines are drawn on."""
        return np.asarray(self.channels[0])


def slice_of(prediction: Prediction, image: NDArray[np.float16], cam: Plane, at: int, point: Point) -> Slice:
    """Cut slice `at` out of a prediction and its sample's image."""
    maps = {name: _plane(getattr(prediction, name), at) for name in ("probability", "entropy", "mutual_information")}
    return Slice(
        channels=image[:, at].astype(np.float32),
        **maps,
        cam=cam,
        outline=maps["probability"] >= point.mask_threshold,
        truth=None if prediction.truth is None else prediction.truth[at].astype(bool),
        aspect=prediction.spacing[1] / prediction.spacing[2],
    )


def _plane(maps: NDArray[np.float16], at: int) -> Plane:
    return np.asarray(maps[at], dtype=np.float32)


def panel(groups: Mapping[str, Sequence[tuple[Case, Slice]]], counts: Mapping[str, int], title: str) -> Figure:
    """Return one row a group: each case's slice with both outlines and the shipped map, and its numbers.

    `counts` says how many cases each group has in all.
    """
    rows = {group: cases for group, cases in groups.items() if cases}
    absent = [group for group in groups if group not in rows]
    across = max(max(map(len, rows.values()), default=2), 2)
    shapes = [cut for cases in rows.values() for _, cut in cases][:1]
    drawn, axes = style.figure(max(len(rows), 1), across, cell=_cell(shapes, 3.2))
    for axis in axes.flat:
        style.bare(axis)
    for row, (group, cases) in zip(axes, rows.items(), strict=False):
        row[0].set_ylabel(f"{group}\n{len(cases)} of {counts[group]}", fontsize=10, color=_verdict(group))
        for axis, (case, cut) in zip(row, cases, strict=False):
            style.backdrop(axis, cut.image, cut.aspect)
            style.heat(axis, cut.cam, strength=0.55)
            style.outlines(axis, cut.truth, cut.outline)
            axis.set_title(_numbers(case), fontsize=8.5, color=style.INK)
    sources = [case.source for cases in groups.values() for case, _ in cases]
    keys = (*style.OUTLINE_KEYS, style.patch_key(EVIDENCE, "shipped map, 0 to 1"))
    none = f"; there is no {' and no '.join(absent)}" if absent else ""
    caption = f"{data_words(sources)}; of each study the slice with most tumour or, without one, most outline{none}"
    style.finish(drawn, title, caption, keys)
    return drawn


def _cell(cuts: Sequence[Slice], width: float) -> tuple[float, float]:
    """Return a cell that a slice fills, with room for two lines above it."""
    rows, columns = cuts[0].image.shape if cuts else (1, 1)
    tall = rows / columns * (cuts[0].aspect if cuts else 1.0)
    return width, width * min(max(tall, 0.5), 1.2) + 0.5


def _verdict(group: str) -> str:
    if group.startswith("fair"):
        return style.INK
    return style.WRONG if group.startswith(("false", "poor")) else style.RIGHT


def _numbers(case: Case) -> str:
    words = [f"p = {case.probability:.2f} ± {case.probability_sd:.2f}"]
    if not np.isnan(case.dice):
        words.append(f"Dice {case.dice:.2f}")
    volumes = f"outline {case.volume_ml:.1f} ml"
    if not np.isnan(case.truth_ml):
        volumes += f", truth {case.truth_ml:.1f} ml"
    return ", ".join(words) + "\n" + volumes


def six(case: Case, cut: Slice, risks: NDArray[np.float64], label: str) -> Figure:
    """Return a study's uncertainty picture.

    Inputs; truth against prediction; predictive entropy; what of the outline is certain; errors, or without a truth
    mutual information; the risk over the passes. `label` names the case, never the patient.
    """
    drawn, axes = style.figure(2, 3, cell=(4.0, 4.0))
    for axis in axes.flat[:5]:
        style.backdrop(axis, cut.image, cut.aspect)
    style.inputs(axes[0, 0], cut.channels, cut.aspect)
    _zoom(axes, cut)
    axes[0, 0].set_title("input" if len(cut.channels) == 1 else "inputs: PET over CT", fontsize=10)
    style.outlines(axes[0, 1], cut.truth, cut.outline)
    axes[0, 1].set_title(f"truth and prediction, {_overlap(case)}", fontsize=10)
    _doubt(drawn, axes[0, 2], cut.entropy, f"predictive entropy, mean in outline {_inside(cut):.2f}")
    _certain(axes[1, 0], cut)
    if cut.truth is None:
        _doubt(drawn, axes[1, 1], cut.mutual_information, "mutual information: the model's own doubt")
    else:
        _errors(axes[1, 1], cut, cut.truth)
    _risks(axes[1, 2], risks)
    keys = (*style.OUTLINE_KEYS, style.patch_key(style.AGREE, "found, and certain"),
            style.patch_key(style.PREDICTION, "found, not certain"), style.patch_key(style.MISSED, "missed"),
            style.patch_key(style.EXTRA, "not tumour"))  # fmt: skip
    answer = "nobody said" if case.outcome is None else str(case.outcome)
    style.finish(
        drawn,
        f"{label}: tumour probability {case.probability:.2f} ± {case.probability_sd:.2f} ({answer})",
        f"{data_words([case.source])}; {_volumes(case)}; {len(risks)} MC-dropout passes",
        keys,
    )
    return drawn


def _zoom(axes: Any, cut: Slice) -> None:  # noqa: ANN401  # matplotlib is untyped
    """Show only what is round the tumour and the outline, and frame that in the first picture."""
    marked = cut.outline if cut.truth is None else cut.outline | cut.truth
    if not marked.any():
        return
    where = np.argwhere(marked)
    centre = (where.min(axis=0) + where.max(axis=0)) / 2
    half = max(float(np.ptp(where, axis=0).max()) + 2 * MARGIN, LEAST) / 2
    (top, left), size = centre - half, 2 * half
    frame = Rectangle((left, top), size, size, fill=False, edgecolor="white", linewidth=1, linestyle=":")
    axes[0, 0].add_patch(frame)
    for axis in axes.flat[1:5]:
        axis.set_facecolor("black")
        axis.set_xlim(left, left + size)
        axis.set_ylim(top + size, top)


def _overlap(case: Case) -> str:
    if np.isnan(case.truth_ml):
        return "no truth known"
    return "no tumour in truth" if np.isnan(case.dice) else f"Dice of the study {case.dice:.2f}"


def _volumes(case: Case) -> str:
    truth = "" if np.isnan(case.truth_ml) else f", truth {case.truth_ml:.1f} ml"
    return f"outline {case.volume_ml:.1f} ml{truth}"


def _inside(cut: Slice) -> float:
    return float(cut.entropy[cut.outline].mean()) if cut.outline.any() else 0.0


def _doubt(drawn: Figure, axis: Any, values: Plane, title: str) -> None:  # noqa: ANN401  # matplotlib is untyped
    top = max(float(values.max()), 0.05)
    shown = style.heat(axis, values, top=top)
    bar = drawn.colorbar(shown, cax=axis.inset_axes((1.02, 0, 0.04, 1)))
    bar.set_label("nats", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    axis.set_title(title, fontsize=10)


def _certain(axis: Any, cut: Slice) -> None:  # noqa: ANN401  # matplotlib is untyped
    sure = cut.outline & (cut.entropy <= SURE_NATS)
    style.areas(axis, [(sure, style.AGREE, 0.6), (cut.outline & ~sure, style.PREDICTION, 0.6)])
    share = f"{sure.sum() / cut.outline.sum():.0%} of the outline" if cut.outline.any() else "nothing outlined"
    axis.set_title(f"certain part (entropy ≤ {SURE_NATS:.2f}): {share}", fontsize=10)


def _errors(axis: Any, cut: Slice, truth: Mask) -> None:  # noqa: ANN401  # matplotlib is untyped
    missed, extra = truth & ~cut.outline, cut.outline & ~truth
    style.areas(
        axis, [(truth & cut.outline, style.AGREE, 0.35), (missed, style.MISSED, 0.8), (extra, style.EXTRA, 0.8)]
    )
    axis.set_title(f"errors: {int(missed.sum())} pixels missed, {int(extra.sum())} too many", fontsize=10)


def _risks(axis: Any, risks: NDArray[np.float64]) -> None:  # noqa: ANN401  # matplotlib is untyped
    low, high = np.quantile(risks, (0.025, 0.975))
    # Equal risks have no width; a narrow bin still shows where they are.
    margin = max(0.1 * float(np.ptp(risks)), 0.05)
    edges = np.linspace(risks.min() - margin, risks.max() + margin, 17)
    axis.hist(risks, bins=edges, color=style.RUNS[0], alpha=0.75, edgecolor="white")
    axis.axvline(risks.mean(), color=style.INK, linewidth=1.5)
    axis.axvspan(low, high, color=style.RUNS[0], alpha=0.12)
    axis.set_xlabel("log hazard, a number without a unit", fontsize=9)
    axis.set_ylabel("passes", fontsize=9)
    axis.set_title(f"risk {risks.mean():.2f}, 95 % of passes {low:.2f} to {high:.2f}", fontsize=10)
    style.plain(axis)


def grad_cam(case: Case, cut: Slice, maps: Mapping[str, Sequence[Plane]], label: str) -> Figure:
    """Return a row a target: the shipped map, then Grad-CAM of each encoder level, each scaled to its own highest."""
    levels = max(len(found) for found in maps.values())
    drawn, axes = style.figure(len(maps), levels + 1, cell=_cell([cut], 2.5))
    for row, (target, found) in zip(axes, maps.items(), strict=True):
        for level, (axis, values) in enumerate(zip(row, (cut.cam, *found), strict=True)):
            style.backdrop(axis, cut.image, cut.aspect)
            style.heat(axis, values / max(float(values.max()), 1e-12))
            style.outlines(axis, cut.truth, np.zeros_like(cut.outline))
            axis.set_title(f"level {level - 1}, 1/{2 ** (level - 1)}" if level else "shipped map, exact", fontsize=9)
            if values.max() <= 0:
                axis.text(
                    0.5, 0.04, "no evidence for it", ha="center", color="white", transform=axis.transAxes, fontsize=8
                )
        row[0].set_ylabel(f"of the {target}", fontsize=10)
    title = f"{label}: where the encoder's evidence lies, p = {case.probability:.2f}"
    style.finish(drawn, title, f"{data_words([case.source])}; each map scaled to its own highest value",
                 (style.OUTLINE_KEYS[0], style.patch_key(EVIDENCE, "evidence")))  # fmt: skip
    return drawn


def measures(found: Mapping[str, Measure], sources: Sequence[str]) -> Figure:
    """Return bars of pointing game and energy with their 95 % intervals, a row a kind of map."""
    kinds = list(found)
    drawn, axes = style.figure(1, 2, cell=(5.6, 0.36 * len(kinds) + 1.2))
    places = np.arange(len(kinds))[::-1]
    for axis, name, words in (
        (axes[0, 0], "pointing", "pointing game: highest pixel in the tumour"),
        (axes[0, 1], "energy", "energy: share of the map in the tumour"),
    ):
        values = np.array([getattr(found[kind], name) for kind in kinds])
        ends = np.array([getattr(found[kind], f"{name}_interval") for kind in kinds]).T
        colours = [_kind_colour(kind) for kind in kinds]
        reach = np.clip(np.abs(ends - values), 0, None)
        axis.barh(places, values, color=colours, xerr=reach, error_kw={"ecolor": style.INK, "capsize": 2.5, "lw": 1})
        axis.set_yticks(places, kinds if name == "pointing" else [""] * len(kinds))
        axis.set_xlim(0, 1)
        axis.set_title(words, fontsize=10)
        style.plain(axis)
    keys = (style.patch_key(style.RUNS[0], "shipped map"), style.patch_key(style.AGREE, "Grad-CAM"),
            style.patch_key("#bbbbbb", "controls"))  # fmt: skip
    count = max((m.slices for m in found.values()), default=0)
    caption = f"{data_words(sources)}; {count} tumour slices, one a study; bars are means, whiskers 95 % intervals"
    style.finish(drawn, "How well each map explains", caption, keys)
    return drawn


def _kind_colour(kind: str) -> str:
    if kind.startswith("shipped"):
        return style.RUNS[0]
    return style.AGREE if kind.startswith("Grad-CAM") else "#bbbbbb"
