"""The pictures of an evaluation; each is drawn only where there is something to draw."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from daemon.domain.finding import Answer
from training.evaluation.bootstrap import numbers
from training.evaluation.canvas import COLOURS, FAINT, GREY, INK, bars, diagonal, figure, legend, name, plain_log, save
from training.evaluation.cases import Case
from training.evaluation.detection import labels, probabilities
from training.evaluation.quality import MEANING
from training.evaluation.segmentation import marked, scores
from training.evaluation.subject import Calibrated
from training.evaluation.survival_plots import concordances, kaplan_meier, survival_calibration
from training.evaluation.uncertainty import FAILURE_DICE, risk_coverage
from training.evaluation.values import Bin, Part

MOST_BINS = 25


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A PNG beside the report, the section it belongs to, what it shows and how wide it should be."""

    path: Path
    section: str
    caption: str
    width_inches: float


Drawing = Callable[[Part, Sequence[Case], Calibrated], Figure | None]


def draw(part: Part, cases: Sequence[Case], subject: Calibrated, out: Path) -> list[Picture]:
    """Write every picture that `part` has data for, as `<origin>-<name>.png`."""
    pictures = []
    for title, (section, caption, drawing) in _DRAWINGS.items():
        made = drawing(part, cases, subject)
        path = out / f"{part.origin}-{title}.png"
        path.unlink(missing_ok=True)
        if made is not None:
            width = made.get_figwidth()
            pictures.append(Picture(path=save(made, path), section=section, caption=caption, width_inches=width))
    return pictures


def _dice(part: Part, cases: Sequence[Case], _: Calibrated) -> Figure | None:
    """Return Dice per source and stratum: every study a dot, the box its quartiles."""
    bearing = [c for c, holds in zip(cases, marked(cases), strict=True) if holds]
    if not bearing:
        return None
    names = [("all studies", bearing)]
    names += [
        (f"{g.kind}: {g.name}", [c for c in bearing if g.name in (c.strata if g.kind == "stratum" else (c.source,))])
        for g in part.groups
    ]
    filled = [(label, scores(members, "dice")) for label, members in names if members]
    made, (axis,) = figure(size=(8.5, 1.3 + 0.42 * len(filled)))
    rng = np.random.Generator(np.random.Philox(0))
    for y, dice in enumerate(dice for _label, dice in filled):
        axis.plot(dice, y + rng.uniform(-0.2, 0.2, dice.size), "o", color=COLOURS[0], markersize=3.5, alpha=0.45)
    axis.boxplot(
        [dice for _label, dice in filled],
        positions=range(len(filled)),
        orientation="horizontal",
        widths=0.6,
        showfliers=False,
        medianprops={"color": COLOURS[1], "linewidth": 2},
    )
    axis.axvline(FAILURE_DICE, color=GREY, linestyle=":", linewidth=1)
    axis.set_yticks(range(len(filled)), [f"{label} (n={dice.size})" for label, dice in filled])
    axis.set_ylim(len(filled) - 0.4, -0.6)
    axis.set_xlim(-0.03, 1.03)
    name(axis, "Overlap of outline and mask", "Dice (dotted: .6, below which an outline counts as failed)", "")
    return made


def _volume(_: Part, cases: Sequence[Case], __: Calibrated) -> Figure | None:
    """Return outlined against true volume, and their difference."""
    bearing = marked(cases)
    if not bearing.any():
        return None
    true, outlined = scores(cases, "true_ml")[bearing], scores(cases, "outlined_ml")[bearing]
    floor = max(min(true.min(), outlined[outlined > 0].min() if outlined.any() else true.min()) / 2, 1e-3)
    made, (left, right) = figure(2)
    ends = [floor * 0.8, max(true.max(), outlined.max()) * 1.3]
    missed = outlined == 0
    left.plot(ends, ends, color=GREY, linestyle="--", linewidth=1, label="agreement")
    left.plot(true[~missed], outlined[~missed], "o", color=COLOURS[0], markersize=4, alpha=0.6)
    if missed.any():
        left.plot(true[missed], np.full(missed.sum(), floor), "x", color=COLOURS[1], label="missed")
    plain_log(left, x=True, y=True)
    legend(left, "upper left")
    name(left, "Volume", "true, ml", "outlined, ml")
    gap, middle = outlined - true, (outlined + true) / 2
    right.plot(middle, gap, "o", color=COLOURS[0], markersize=4, alpha=0.6)
    plain_log(right, x=True, y=False)
    bias, spread = float(gap.mean()), 1.96 * float(gap.std())
    for level, style in ((bias, "-"), (bias - spread, ":"), (bias + spread, ":")):
        right.axhline(level, color=COLOURS[1], linestyle=style, linewidth=1)
    name(right, "Bland-Altman: mean and 95 % limits of agreement", "mean of both, ml", "outlined - true, ml")
    return made


def _roc(part: Part, cases: Sequence[Case], subject: Calibrated) -> Figure | None:
    label, probability = labels(cases), probabilities(cases)
    known = np.isfinite(label)
    if len(set(label[known])) < 2:
        return None
    made, (left, right) = figure(2)
    false, true, _ = roc_curve(label[known], probability[known])
    area, average = part.detection.roc_auc.value or 0, part.detection.pr_auc.value or 0
    left.plot(false, true, color=COLOURS[0], linewidth=2, drawstyle="steps-post", label=f"area {area:.3f}")
    diagonal(left, "chance")
    counts = part.detection.confusion
    recall = counts.true_positive / max(counts.true_positive + counts.false_negative, 1)
    alarms = counts.false_positive / max(counts.false_positive + counts.true_negative, 1)
    threshold = subject.calibration.threshold
    left.plot([alarms], [recall], "o", color=COLOURS[1], label=f"at the bundle's threshold {threshold:.2f}")
    legend(left, "lower right")
    name(left, "ROC", "1 - specificity", "sensitivity")
    precision, recalled, _ = precision_recall_curve(label[known], probability[known])
    right.plot(recalled, precision, color=COLOURS[0], linewidth=2, drawstyle="steps-post", label=f"area {average:.3f}")
    right.axhline(label[known].mean(), color=GREY, linestyle="--", linewidth=1, label="share of tumours")
    right.set_xlim(-0.02, 1.02)
    right.set_ylim(-0.02, 1.02)
    legend(right, "lower left")
    name(right, "Precision and recall", "recall", "precision")
    return made


def _confusion(_: Part, cases: Sequence[Case], __: Calibrated) -> Figure | None:
    """Return the answers against the truth."""
    label = labels(cases)
    if not np.isfinite(label).any():
        return None
    answers = (Answer.LIKELY, Answer.UNCERTAIN, Answer.NOT_LIKELY)
    given = np.array([str(c.findings.answer) for c in cases])
    counts = np.array([[int(((given == a) & (label == t)).sum()) for a in answers] for t in (1, 0)])
    made, (axis,) = figure(size=(5.6, 2.9))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1.3, aspect="auto")
    for (row, column), count in np.ndenumerate(counts):
        text = f"{count}\n{100 * shares[row, column]:.0f} %" if counts[row].any() else "0"
        colour = "white" if shares[row, column] > 0.6 else INK
        axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=11)
    axis.grid(visible=False)
    axis.set_xticks(range(3), ["likely", "uncertain", "not likely"])
    axis.set_yticks(range(2), ["tumour", "no tumour"])
    name(axis, "Answers", "the model's answer", "truth")
    return made


def _reliability(part: Part, _: Sequence[Case], __: Calibrated) -> Figure | None:
    doubt = part.uncertainty
    shown = [
        (title, r)
        for title, r in (("Tumour probability, per study", doubt.study), ("Outline, per voxel", doubt.voxel))
        if r.bins
    ]
    if not shown:
        return None
    made, axes = figure(len(shown))
    for axis, (title, reliability) in zip(axes, shown, strict=True):
        diagonal(axis)
        _bins(axis.scatter, reliability.bins)
        error = reliability.ece.value
        name(axis, f"{title} (ECE {0 if error is None else error:.3f})", "predicted probability", "observed share")
        axis.plot([], [], "o", color=COLOURS[0], label="bin; its area tells the count")
        legend(axis, "lower right")
    return made


def _bins(scatter: Callable[..., object], bins: Sequence[Bin]) -> None:
    counts = np.array([b.count for b in bins], dtype=float)
    scatter(
        [b.predicted for b in bins],
        [b.observed for b in bins],
        s=20 + 180 * counts / counts.max(),
        color=COLOURS[0],
        alpha=0.75,
        edgecolor="white",
        zorder=3,
    )


def _risk_coverage(part: Part, cases: Sequence[Case], _: Calibrated) -> Figure | None:
    judged = [c for c in cases if c.overlap is not None and c.overlap.dice is not None]
    if len(judged) < 2:
        return None
    loss = 1 - scores(judged, "dice")
    coverage = np.arange(1, loss.size + 1) / loss.size
    made, (axis,) = figure(size=(7.4, 4.2))
    for colour, row in zip(COLOURS, part.uncertainty.scores, strict=False):
        doubt = numbers([getattr(c.quality, row.name) for c in judged])
        label = f"{MEANING[row.name]}: {row.aurc.value or 0:.3f}"
        axis.plot(coverage, risk_coverage(loss, doubt), color=colour, linewidth=1.6, label=label)
    axis.plot(coverage, risk_coverage(loss, loss), color=INK, linestyle=":", linewidth=1.4, label="perfect ordering")
    axis.axhline(loss.mean(), color=GREY, linestyle="--", linewidth=1, label="no ordering")
    axis.set_xlim(0, 1.02)
    axis.set_ylim(bottom=0)
    made.legend(fontsize=8.5, frameon=False, loc="outside lower center", ncols=2)
    name(axis, "If the most doubtful outlines are left to a person", "share of outlines kept", "mean 1 - Dice of those")
    return made


def _failures(part: Part, cases: Sequence[Case], subject: Calibrated) -> Figure | None:
    judged = [c for c in cases if c.overlap is not None and c.overlap.dice is not None]
    if not judged:
        return None
    shipped = "mean_entropy"
    best = part.uncertainty.best or shipped
    chosen = [shipped] if best == shipped else [shipped, best]
    made, axes = figure(len(chosen))
    dice = scores(judged, "dice")
    for axis, score in zip(axes, chosen, strict=True):
        doubt = numbers([getattr(c.quality, score) for c in judged])
        for part_of, colour, label in (
            (dice >= FAILURE_DICE, COLOURS[0], "good"),
            (dice < FAILURE_DICE, COLOURS[1], "failed"),
        ):
            axis.plot(doubt[part_of], dice[part_of], "o", color=colour, markersize=4.5, alpha=0.65, label=label)
        axis.axhline(FAILURE_DICE, color=GREY, linestyle=":", linewidth=1)
        if score == shipped:
            limit = subject.calibration.entropy_limit
            axis.axvline(limit, color=INK, linestyle="--", linewidth=1, label=f"bundle's limit {limit:.2f}")
        axis.set_ylim(-0.03, 1.03)
        name(axis, "Shipped score of doubt" if score == shipped else "Best score of doubt", MEANING[score], "Dice")
    made.legend(*axes[0].get_legend_handles_labels(), fontsize=8.5, frameon=False, loc="outside lower center", ncols=3)
    return made


def _forest(part: Part, _: Sequence[Case], __: Calibrated) -> Figure | None:
    """Return tumour finding per source and stratum."""
    rows = [("all studies", part.detection.roc_auc)]
    rows += [(f"{g.kind}: {g.name}", g.roc_auc) for g in part.groups if g.roc_auc.value is not None]
    if part.detection.roc_auc.value is None or len(rows) < 3:
        return None
    made, (axis,) = figure(size=(7.5, 1.3 + 0.42 * len(rows)))
    bars(axis, rows)
    axis.axvline(0.5, color=FAINT, linewidth=1.5)
    name(axis, "Area under the ROC curve, 95 % interval", "ROC-AUC", "")
    return made


_DRAWINGS: dict[str, tuple[str, str, Drawing]] = {
    "confusion": ("detection", "Answers of the model against the truth, counts and share of each row.", _confusion),
    "roc": ("detection", "Finding tumours at every possible threshold.", _roc),
    "detection-groups": ("detection", "Finding tumours, by source and stratum.", _forest),
    "dice": ("segmentation", "Dice of every study with a tumour; boxes are quartiles, the line the median.", _dice),
    "volume": ("segmentation", "Outlined volume against the mask's.", _volume),
    "reliability": (
        "uncertainty",
        "Predicted against observed: on the line, 80 % means 8 of 10. Voxels: those where tumour seemed conceivable.",
        _reliability,
    ),
    "failures": (
        "uncertainty",
        "Doubt against quality of the outline; failed ones should lie to the right.",
        _failures,
    ),
    "risk-coverage": (
        "uncertainty",
        "Mean error of the outlines kept when the most doubtful are handed to a person; the area under each curve.",
        _risk_coverage,
    ),
    "kaplan-meier": ("survival", "Survival by the bundle's risk classes; bands are 95 % intervals.", kaplan_meier),
    "survival-calibration": (
        "survival",
        "Predicted against observed survival in thirds of predicted survival.",
        survival_calibration,
    ),
    "concordance": ("survival", "Harrell's C of the model and of what it must beat.", concordances),
}
