"""The pictures of survival."""

from collections.abc import Sequence

import numpy as np
from lifelines import KaplanMeierFitter
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from daemon.domain.finding import RiskClass
from training.evaluation.canvas import COLOURS, FAINT, bars, diagonal, figure, legend, name
from training.evaluation.cases import Case
from training.evaluation.concordance import DAYS_PER_YEAR, FollowUp
from training.evaluation.patients import one_each
from training.evaluation.subject import Calibrated
from training.evaluation.survival import follow_up_of
from training.evaluation.values import Part

_SHADES = {RiskClass.LOW: COLOURS[2], RiskClass.MODERATE: COLOURS[4], RiskClass.HIGH: COLOURS[1]}


def kaplan_meier(part: Part, cases: Sequence[Case], subject: Calibrated) -> Figure | None:
    """Return survival curves by risk class with the numbers of patients at risk below the years."""
    ranked = [c for c in cases if c.followed and c.findings.risk_class]
    followed = one_each(ranked, subject.calibration.risk_cuts)
    if not followed:
        return None
    made, (axis,) = figure(size=(7.4, 4.6))
    longest = follow_up_of(followed).time.max() / DAYS_PER_YEAR
    ticks = np.arange(0, np.floor(longest) + 1)
    names, columns = ["years", "at risk:"], [[f"{t:.0f}", ""] for t in ticks]
    for risk, colour in _SHADES.items():
        members = [c for c in followed if c.findings.risk_class is risk]
        if not members:
            continue
        times = follow_up_of(members)
        _curve(axis, FollowUp(time=times.time / DAYS_PER_YEAR, died=times.died), colour, f"{risk} risk")
        names.append(str(risk))
        for column, t in zip(columns, ticks, strict=True):
            column.append(str(int((times.time / DAYS_PER_YEAR >= t).sum())))
    p = part.survival.log_rank_p.value
    title = "Survival by risk class" + ("" if p is None else f" (log-rank p {'< .001' if p < 0.001 else f'= {p:.3f}'})")
    axis.set_ylim(0, 1.03)
    axis.set_xlim(0, longest)
    name(axis, title, "", "share alive")
    axis.set_xticks(ticks, ["\n".join(column) for column in columns])
    # As far below the axis as tick labels are, so that the rows line up.
    axis.annotate(
        "\n".join(names), (0, 0), (-14, -7), "axes fraction", "offset points", ha="right", va="top", fontsize=9
    )
    legend(axis)
    return made


def _curve(axis: Axes, follow_up: FollowUp, colour: str, label: str) -> None:
    fitted = KaplanMeierFitter().fit(follow_up.time, follow_up.died)
    curve, band = fitted.survival_function_, fitted.confidence_interval_
    axis.step(curve.index, curve.iloc[:, 0], where="post", color=colour, linewidth=2, label=label)
    axis.fill_between(band.index, band.iloc[:, 0], band.iloc[:, 1], step="post", color=colour, alpha=0.15)


def survival_calibration(part: Part, _: Sequence[Case], __: Calibrated) -> Figure | None:
    """Return predicted against observed survival, one panel a year."""
    shown = [year for year in part.survival.years if year.groups]
    if not shown:
        return None
    made, axes = figure(len(shown), (3.6, 3.6))
    for axis, year in zip(axes, shown, strict=True):
        diagonal(axis)
        for group in year.groups:
            axis.plot([group.predicted] * 2, [group.low, group.high], color=COLOURS[0], linewidth=1.5)
            axis.plot([group.predicted], [group.observed], "o", color=COLOURS[0], markersize=6)
        name(axis, f"{year.years} year{'s' if year.years > 1 else ''}", "predicted", "observed (Kaplan-Meier)")
    return made


def concordances(part: Part, _: Sequence[Case], __: Calibrated) -> Figure | None:
    """Return Harrell's C of the model, the simpler models and the oracle."""
    rows = [(r.name, r.harrell) for r in part.survival.rankings if r.harrell.value is not None]
    if not rows:
        return None
    made, (axis,) = figure(size=(7.5, 1.3 + 0.5 * len(rows)))
    bars(axis, rows)
    axis.axvline(0.5, color=FAINT, linewidth=1.5)
    name(axis, "Harrell's C, 95 % interval (.5: chance)", "C-index", "")
    return made
