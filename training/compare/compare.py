"""Compares runs and writes `compare.json`, `compare.html` and pictures."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from training.compare import costs, plots
from training.compare.cohort import Cohort, read
from training.compare.contrast import Comparer, Contrast, Estimate, adjusted
from training.compare.costs import Cost
from training.compare.design import Design
from training.explain import style
from training.explain.cases import Point, data_words
from training.explain.page import Page, Section

_TESTS_NOTE = (
    "Difference: first minus second, with its 95 % interval. p after Holm's adjustment for all tests on this page. "
    "Intervals of Dice, right answers and C-index resample patients; the signed-rank, McNemar and DeLong tests take "
    "studies as independent."
)
_NO_P = "p is not defined: both runs rank every study without an error, so DeLong's variance is 0."


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to compare: `folders` of predictions by run; `against` a run that all others are tested against, or None.

    `points` are operating points by run; `costs` a `shrink.json`; `design` says which tests are done, in place of all
    pairs; `common` keeps the studies that all runs have.
    """

    folders: Mapping[str, Path]
    out: Path
    points: Mapping[str, Point] = field(default_factory=dict)
    against: str | None = None
    costs: Path | None = None
    design: Design | None = None
    common: bool = False
    resamples: int = 2000
    seed: int = 1


def compare(request: Request) -> dict[str, Any]:
    """Write the comparison to the request's folder; return what the JSON holds.

    Raises:
        FileNotFoundError: a folder or file is missing.
        ValueError: the runs cannot be compared; the message says why.
    """
    if request.against is not None and request.against not in request.folders:
        raise ValueError(f"no run is called {request.against}; the runs are {', '.join(request.folders)}")
    priced = {} if request.costs is None else costs.read(request.costs, request.folders)
    cohort = read(request.folders, request.points, common=request.common)
    comparer = Comparer.of(cohort, request.resamples, request.seed)
    contrasts = adjusted(_tests(request, comparer))
    if not contrasts:
        raise ValueError("the studies have neither outlines, tumour labels nor follow-up; nothing can be compared")
    summaries = {name: comparer.summary(name) for name in cohort.runs}
    request.out.mkdir(parents=True, exist_ok=True)
    drawn = {"curves": plots.curves(cohort, summaries), "differences": plots.differences(contrasts, cohort.sources)}
    if priced:
        drawn["trade-off"] = plots.trade_off(priced, summaries, cohort.sources)
    pictures = {name: style.save(figure, request.out / f"{name}.png") for name, figure in drawn.items()}
    document = _document(request, cohort, (contrasts, summaries, priced))
    (request.out / "compare.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    _page(document, pictures, contrasts).save(request.out / "compare.html")
    return document


def _tests(request: Request, comparer: Comparer) -> list[Contrast]:
    design = request.design
    if design is not None:
        return [
            c for task, name in design.single.items() for c in comparer.contrasts([(design.multitask, name)], [task])
        ]
    names = list(request.folders)
    if request.against is None:
        return comparer.contrasts(list(combinations(names, 2)))
    return comparer.contrasts([(name, request.against) for name in names if name != request.against])


def _document(
    request: Request,
    cohort: Cohort,
    found: tuple[Sequence[Contrast], Mapping[str, Mapping[str, Estimate]], Mapping[str, Cost]],
) -> dict[str, Any]:
    contrasts, summaries, priced = found
    document = {
        "data": data_words(cohort.sources),
        "studies": len(cohort.studies),
        "patients": len(set(cohort.patients)),
        "seed": request.seed,
        "resamples": request.resamples,
        "runs": {
            name: {
                "figures": {metric: asdict(estimate) for metric, estimate in summary.items()},
                "operating_point": asdict(request.points.get(name, Point())),
                "cost": priced[name].model_dump() if name in priced else None,
            }
            for name, summary in summaries.items()
        },
        "tests": [asdict(contrast) | {"ahead": contrast.ahead} for contrast in contrasts],
        "verdicts": [] if request.design is None else request.design.verdicts(contrasts),
    }
    return _finite(document)


def _finite(value: Any) -> Any:  # noqa: ANN401  # JSON's own shape
    """Return `value` with None for the numbers that JSON has no word for."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _page(document: Mapping[str, Any], pictures: Mapping[str, Path], contrasts: Sequence[Contrast]) -> Page:
    tests = [
        (c.metric, c.first, c.second, f"{c.values[0]:.3f}", f"{c.values[1]:.3f}",
         f"{c.difference:+.3f} ({c.low:+.3f} to {c.high:+.3f})", c.effect, c.test, plots.p_words(c.p_holm),
         c.ahead or "none shown")
        for c in contrasts
    ]  # fmt: skip
    columns = ("metric", "first", "second", "first's", "second's", "difference (95 %)", "effect", "test", "p", "ahead")
    undefined = f" {_NO_P}" if any(math.isnan(c.p) for c in contrasts) else ""
    sections = [
        Section(heading="Figures of each run", **_table(document["runs"]), note="95 % intervals in brackets."),
        Section(heading="Tests", columns=columns, rows=tests, note=_TESTS_NOTE + undefined,
                pictures=[pictures["differences"]]),
        Section(heading="Curves", pictures=[pictures["curves"]]),
    ]  # fmt: skip
    if "trade-off" in pictures:
        sections.append(Section(heading="Accuracy against cost", pictures=[pictures["trade-off"]]))
    lead = [
        f"{document['studies']} studies of {document['patients']} patients, read by every run.",
        *document["verdicts"],
    ]
    return Page(title="Runs compared", data=document["data"], lead=lead, sections=sections)


def _table(runs: Mapping[str, Any]) -> dict[str, Any]:
    """Return columns and rows of figures and costs."""
    metrics = list(dict.fromkeys(metric for run in runs.values() for metric in run["figures"]))
    priced = any(run["cost"] for run in runs.values())
    rows = []
    for name, run in runs.items():
        figures = [run["figures"].get(metric) for metric in metrics]
        told = [f"{f['value']:.3f} ({_n(f['low'])} to {_n(f['high'])})" if f else "n/a" for f in figures]
        cost = run["cost"] or {}
        prices = (_n(cost.get("megabytes"), 2), _n(cost.get("milliseconds"), 1), _n(cost.get("parameters"), 0))
        rows.append((name, *told, *(prices if priced else ())))
    return {"columns": ("run", *metrics, *(("MB", "ms a slice", "parameters") if priced else ())), "rows": rows}


def _n(value: float | None, digits: int = 3) -> str:
    return "n/a" if value is None else f"{value:.{digits}f}"
