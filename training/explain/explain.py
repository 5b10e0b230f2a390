"""Explains a set of predictions: pictures of right and wrong cases, and how well each kind of map explains."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from training.data.sample import Sample
from training.explain import pictures, style
from training.explain.cases import UNCALIBRATED, Case, Fit, Outcome, Point, balanced, case_of, data_words, stream
from training.explain.gradcam import DEEPEST, Target, View, grad_cams, load_network, randomised
from training.explain.measure import Measure, Plane, Score, exact_cam, score, summarise
from training.explain.page import Page, Section
from training.explain.pictures import Slice, slice_of
from training.network import MultitaskNet
from training.predictions import Prediction
from training.settings import Settings

SHIPPED = "shipped map, exact"
_MAPS_NOTE = (
    "On the widest tumour slice of each study. Pointing game: how often the map's highest pixel lies in the tumour. "
    "Energy: how much of the map lies inside. A map that scores no better than the controls explains nothing."
)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to explain.

    `samples` holds the samples that `predictions` were made of; `network` is (checkpoint, settings) for Grad-CAM or
    None; `each` the cases shown per group, `most` the tumour slices measured, both drawn by `seed`.
    """

    predictions: Path
    samples: Path
    out: Path
    point: Point = UNCALIBRATED
    network: tuple[Path, Path] | None = None
    each: int = 4
    most: int = 24
    seed: int = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class _Run:
    request: Request
    cases: Mapping[str, Case]
    net: MultitaskNet | None
    settings: Settings | None

    def read(self, name: str) -> tuple[Prediction, Sample]:
        """Return a case's prediction and sample.

        Raises:
            ValueError: they are not of the same study.
        """
        prediction = Prediction.load(self.request.predictions / f"{name}.npz")
        sample = Sample.load(self.request.samples / f"{name}.npz")
        if sample.image.shape[1:] != prediction.probability.shape:
            raise ValueError(
                f"sample {name} is {sample.image.shape[1:]} voxels, its prediction {prediction.probability.shape}: "
                "the samples were prepared anew; predict them again"
            )
        return prediction, sample

    def cams(self, sample: Sample, at: int) -> dict[str, list[Plane]]:
        """Return Grad-CAM maps by target; none without a network."""
        if self.net is None or self.settings is None:
            return {}
        view = View.of(sample.image, at, self.settings.recipe)
        return {str(target): grad_cams(self.net, view, target) for target in Target}

    def untrained(self, sample: Sample, at: int) -> dict[str, Plane]:
        """Return the deepest map of the same network with random weights; none without a network."""
        if self.net is None or self.settings is None:
            return {}
        view = View.of(sample.image, at, self.settings.recipe)
        (deepest,) = grad_cams(randomised(self.net, self.request.seed), view, Target.TUMOUR, DEEPEST)
        return {"untrained network, deepest level": deepest}


def explain(request: Request) -> dict[str, Any]:
    """Write pictures, `explain.json` and `explain.html` to the request's folder; return what the JSON holds.

    Raises:
        FileNotFoundError: there are no predictions, or a sample is missing.
        ValueError: a file is of another kind, or sample and prediction do not match.
    """
    cases = {p.name: case_of(p, request.point) for p in stream(request.predictions)}
    _demand_samples(cases, request.samples)
    net, settings = (None, None) if request.network is None else load_network(*request.network)
    run = _Run(request=request, cases=cases, net=net, settings=settings)
    by_outcome = {str(kind): [c for c in cases.values() if c.outcome is kind] for kind in Outcome}
    by_fit = {str(kind): [c for c in cases.values() if c.fit is kind] for kind in Fit}
    shown = [balanced(groups, request.each, request.seed) for groups in (by_outcome, by_fit)]
    names = sorted({case.name for chosen in shown for members in chosen.values() for case in members} or cases)
    labels = {name: f"case {number:02d}" for number, name in enumerate(names, 1)}
    drawn = _case_pictures(run, labels)
    panels = []
    for stem, chosen, groups in zip(("detection", "outlines"), shown, (by_outcome, by_fit), strict=True):
        rows = {group: [(case, drawn[case.name]) for case in members] for group, members in chosen.items()}
        counts = {group: len(members) for group, members in groups.items()}
        picture = pictures.panel(rows, counts, "Right and wrong answers" if stem == "detection" else "Outlines by fit")
        panels.append(style.save(picture, request.out / f"panel-{stem}.png"))
    measured = _measure(run)
    document = _document(run, labels, measured)
    (request.out / "explain.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    _page(run, document, panels)
    return document


def _demand_samples(cases: Mapping[str, Case], folder: Path) -> None:
    missing = [name for name in cases if not (folder / f"{name}.npz").exists()]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise FileNotFoundError(
            f"no sample in {folder} for {', '.join(missing[:5])}{more}; give the folder that was predicted"
        )


def _case_pictures(run: _Run, labels: Mapping[str, str]) -> dict[str, Slice]:
    """Draw every chosen case by itself; return their slices for the panels."""
    cuts = {}
    for name, label in track(labels.items(), description="pictures"):
        case = run.cases[name]
        prediction, sample = run.read(name)
        cut = slice_of(prediction, sample.image, exact_cam(prediction, case.at), case.at, run.request.point)
        stem = label.replace(" ", "-")
        style.save(pictures.six(case, cut, prediction.risks, label), run.request.out / f"uncertainty-{stem}.png")
        maps = run.cams(sample, case.at)
        if maps:
            style.save(pictures.grad_cam(case, cut, maps, label), run.request.out / f"gradcam-{stem}.png")
        cuts[name] = cut
    return cuts


def _measure(run: _Run) -> dict[str, Measure]:
    """Score every kind of map on the widest tumour slice of up to `most` studies."""
    marked = sorted(name for name, case in run.cases.items() if case.truth_ml > 0)
    rng = np.random.Generator(np.random.Philox(run.request.seed))
    chosen = sorted(rng.permutation(marked)[: run.request.most].tolist())
    scores: dict[str, list[Score]] = {}
    for name in track(chosen, description="measure"):
        prediction, sample = run.read(name)
        if prediction.truth is None:
            continue
        at = int(prediction.truth.sum(axis=(1, 2)).argmax())
        for kind, values in _kinds(run, prediction, sample, at).items():
            found = score(values, prediction.truth[at].astype(bool), prediction.spacing[1:])
            scores.setdefault(kind, []).append(found)
    measured = summarise(scores, run.request.seed)
    if measured:
        sources = [run.cases[name].source for name in chosen]
        style.save(pictures.measures(measured, sources), run.request.out / "measures.png")
    return measured


def _kinds(run: _Run, prediction: Prediction, sample: Sample, at: int) -> dict[str, Plane]:
    """Return every kind of map of a slice; controls last."""
    maps = {SHIPPED: exact_cam(prediction, at)}
    for target, levels in run.cams(sample, at).items():
        maps |= {f"Grad-CAM of {target}, level {i}": values for i, values in enumerate(levels)}
    maps |= run.untrained(sample, at)
    bright = sample.image[0, at].astype(np.float32)
    maps["brightness of the image"] = bright - bright.min()
    maps["even map"] = np.ones_like(bright)
    return maps


def _document(run: _Run, labels: Mapping[str, str], measured: Mapping[str, Measure]) -> dict[str, Any]:
    cases = list(run.cases.values())
    return {
        "data": data_words([case.source for case in cases]),
        "seed": run.request.seed,
        "operating_point": asdict(run.request.point),
        "outcomes": {str(kind): sum(case.outcome is kind for case in cases) for kind in Outcome},
        "outlines": {str(kind): sum(case.fit is kind for case in cases) for kind in Fit},
        "cases": {label: _plain(run.cases[name]) for name, label in labels.items()},
        "maps": {kind: asdict(measure) for kind, measure in measured.items()},
    }


def _plain(case: Case) -> dict[str, Any]:
    """Return a case as JSON holds it: no number that JSON has no word for, and whose case it is for those on site."""
    facts = asdict(case) | {"outcome": case.outcome, "fit": case.fit}
    return {key: None if isinstance(v, float) and math.isnan(v) else v for key, v in facts.items()}


def _page(run: _Run, document: Mapping[str, Any], panels: Sequence[Path]) -> Path:
    out = run.request.out
    columns = ("map", "slices", "pointing game (95 %)", "within 8 mm", "energy (95 %)", "over an even map")
    rows = [
        (kind, str(m["slices"]), _with(m["pointing"], m["pointing_interval"]), f"{m['near']:.2f}",
         _with(m["energy"], m["energy_interval"]), f"{m['gain']:.1f} times")
        for kind, m in document["maps"].items()
    ]  # fmt: skip
    stems = [label.replace(" ", "-") for label in document["cases"]]
    sections = [
        Section(heading="Right and wrong", pictures=panels, note=f"Up to {run.request.each} of each kind."),
        Section(heading="How well each map explains", columns=columns, rows=rows, note=_MAPS_NOTE,
                pictures=[out / "measures.png"] if rows else []),
        Section(heading="Uncertainty, a picture a study",
                pictures=[out / f"uncertainty-{stem}.png" for stem in stems]),
    ]  # fmt: skip
    if run.net is not None:
        drawn = [out / f"gradcam-{stem}.png" for stem in stems]
        sections.append(Section(heading="Grad-CAM by encoder level", pictures=drawn))
    counts = ", ".join(f"{count} {kind}" for kind, count in document["outcomes"].items())
    lead = [f"{len(run.cases)} studies: {counts}."]
    page = Page(title="What the model looks at", data=document["data"], lead=lead, sections=sections)
    return page.save(out / "explain.html")


def _with(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.2f} ({interval[0]:.2f} to {interval[1]:.2f})"
