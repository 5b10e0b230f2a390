"""The whole evaluation of tiny predictions: metrics.json, pictures, report, and what is missing."""

import base64
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import typer

from tests.manifests import CALIBRATION
from tests.tiny_bundle import make_tiny_bundle
from tests.tiny_predictions import Asked, calibration, cohort, make, store
from training.commands.evaluate import command
from training.evaluation.bands import NONE, SURE, UNSURE, recommendation
from training.evaluation.evaluate import evaluate
from training.evaluation.report import number
from training.evaluation.subject import load_subject
from training.evaluation.values import Measure, Metrics, Options
from training.predictions import Prediction

FEW = Options(resamples=20)


class _Images(HTMLParser):
    """Collects where a page's images come from, and what else it would load."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note images and anything else that would be fetched."""
        values = dict(attrs)
        if tag == "img":
            self.sources.append(values.get("src") or "")
        elif tag in {"link", "script", "iframe"}:
            self.loaded.append(tag)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the evaluation of 40 phantoms and 6 real studies with tumour and mask alone."""
    folder = tmp_path_factory.mktemp("evaluation")
    real = [
        replace(p, name=f"r{p.name}", patient=f"r{p.name}", source="real head", strata=())
        for p in (make(Asked(name=f"x{i}", shift=i)) for i in range(6))
    ]
    store([*cohort(40), *real], folder / "predictions")
    evaluate(folder / "predictions", calibration(folder / "c.toml"), folder / "out", FEW)
    return folder


def _metrics(folder: Path) -> Metrics:
    return Metrics.model_validate_json((folder / "out" / "metrics.json").read_text(encoding="utf-8"))


def _no_constant(name: str) -> None:
    raise AssertionError(f"metrics.json holds {name}")


def test_metrics_come_back_by_their_schema_without_nan(made: Path) -> None:
    """The file is strict JSON of the documented schema; real and made studies stand apart."""
    text = (made / "out" / "metrics.json").read_text(encoding="utf-8")
    json.loads(text, parse_constant=_no_constant)
    metrics = _metrics(made)
    assert [(p.origin, p.data.studies) for p in metrics.parts] == [("real", 6), ("synthetic", 40)]
    assert metrics.options.tolerance_mm == 3
    assert {g.name for g in metrics.parts[1].groups} == {"phantom FLAIR", "phantom T1C", "small", "large", "normal"}
    assert sum(b.studies for b in metrics.parts[1].bands) == 40


def test_every_number_or_its_reason(made: Path) -> None:
    """A measure without a value always says why, and one with a value never does."""

    def walk(node: Any) -> list[dict[str, Any]]:  # noqa: ANN401  # JSON is anything
        if isinstance(node, dict):
            own = [node] if {"value", "missing"} <= node.keys() else []
            return own + [m for child in node.values() for m in walk(child)]
        return [m for child in node for m in walk(child)] if isinstance(node, list) else []

    measures = walk(json.loads((made / "out" / "metrics.json").read_text(encoding="utf-8")))
    assert len(measures) > 200
    assert all((m["value"] is None) == bool(m["missing"]) for m in measures)
    assert all(m["low"] is None or m["low"] <= m["value"] <= m["high"] for m in measures)


def test_the_report_holds_every_picture_and_loads_nothing(made: Path) -> None:
    """Pictures are embedded byte for byte and show something; nothing else is fetched."""
    page = _Images()
    page.feed((made / "out" / "report.html").read_text(encoding="utf-8"))
    embedded = {base64.b64decode(source.removeprefix("data:image/png;base64,")) for source in page.sources}
    files = sorted((made / "out").glob("*.png"))
    assert embedded == {path.read_bytes() for path in files}
    assert page.loaded == []
    names = {path.stem for path in files}
    assert {"synthetic-roc", "synthetic-kaplan-meier", "synthetic-reliability", "real-dice"} <= names
    assert "real-roc" not in names
    for path in files:
        assert np.std(matplotlib.image.imread(path)[..., :3]) > 0.02, path.name


def test_the_report_says_what_a_clinician_must_know(made: Path) -> None:
    """Research use, made studies marked as such, reasons for what is missing, advice, limits."""
    page = (made / "out" / "report.html").read_text(encoding="utf-8")
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>|data:image[^\"]+", " ", page))
    assert "not a medical device" in text
    assert "None of these numbers is a clinical one." in text
    assert "There is no real study without a tumour here" in text
    assert "cannot be computed because no study without a tumour is among them" in text
    assert "Survival numbers cannot be computed because no study has follow-up." in text
    assert "Read the study as if there were no second reader" in text
    assert "None None" not in text
    assert " nan" not in text.lower()


def test_the_same_predictions_give_the_same_bytes(made: Path, tmp_path: Path) -> None:
    """Numbers, pictures and report repeat to the byte."""
    predictions = store(cohort(12), tmp_path / "p")
    for out in ("once", "again"):
        evaluate(predictions, made / "c.toml", tmp_path / out, FEW)
    for path in sorted((tmp_path / "once").iterdir()):
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def _bare(name: str, **facts: Any) -> Prediction:  # noqa: ANN401  # fields of several types
    return replace(make(Asked(name=name)), **facts)


@pytest.mark.parametrize(
    "predictions",
    [
        [_bare("one")],
        [_bare("a", truth=None, tumour=None), _bare("b", truth=None, tumour=None)],
        [replace(make(Asked(name=n, tumour=False)), source="real") for n in "abcdef"],
        [_bare(n, time_days=50.0, event=1) for n in "abc"],
        [replace(make(Asked(name=n, miss=True, logit=-3)), source="real") for n in "abcdef"],
    ],
    ids=["a single study", "nothing known", "normals alone", "deaths on one day", "misses alone"],
)
def test_poor_sets_are_reported_without_a_crash(predictions: list[Prediction], tmp_path: Path) -> None:
    """Whatever is absent, there is a report, and the JSON is finite."""
    store(predictions, tmp_path / "p")
    written = evaluate(tmp_path / "p", calibration(tmp_path / "c.toml"), tmp_path / "out", FEW)
    json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"), parse_constant=_no_constant)
    assert "cannot be computed because" in written.report.read_text(encoding="utf-8")


def test_a_picture_that_no_longer_applies_does_not_stay(tmp_path: Path) -> None:
    """A second evaluation into the same folder leaves no picture of the first that it cannot draw."""
    out = tmp_path / "out"
    toml = calibration(tmp_path / "c.toml")
    evaluate(store(cohort(12), tmp_path / "p"), toml, out, FEW)
    assert (out / "synthetic-kaplan-meier.png").exists()
    evaluate(store([make(Asked())], tmp_path / "q"), toml, out, FEW)
    assert not (out / "synthetic-kaplan-meier.png").exists()


def test_the_subject_is_read_from_a_bundle_its_toml_or_a_calibration(tmp_path: Path) -> None:
    """A sealed folder tells its digest; a bundle.toml the rest; a calibration only the thresholds."""
    bundle = make_tiny_bundle(tmp_path / "bundle")
    sealed, bare = load_subject(bundle), load_subject(bundle / "bundle.toml")
    assert len(sealed.subject.digest) == 64
    assert sealed.subject.model_copy(update={"digest": ""}) == bare.subject
    assert bare.subject.reads == "MR (FLAIR, T2, T1C, T1)"
    alone = load_subject(calibration(tmp_path / "c.toml"))
    assert alone.calibration == sealed.calibration == CALIBRATION


def test_a_damaged_bundle_is_refused(tmp_path: Path) -> None:
    """An altered file is named."""
    bundle = make_tiny_bundle(tmp_path / "bundle")
    (bundle / "encoder.onnx").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"encoder\.onnx does not match its digest"):
        load_subject(bundle)


def test_the_command_writes_the_report(made: Path, tmp_path: Path) -> None:
    """`python -m training evaluate` ends with 0 and names the report."""
    store([make(Asked(name=n)) for n in "ab"], tmp_path / "p")
    call = ["evaluate", str(tmp_path / "p"), "--calibration", str(made / "c.toml"), "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-m", "training", *call], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "out" / "report.html") in done.stdout
    assert (tmp_path / "out" / "report.html").is_file()


def test_the_command_refuses_bad_input_with_2(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence names predictions or a calibration that are not there."""
    for predictions, toml, said in (
        (tmp_path, made / "c.toml", "no predictions in"),
        (made / "predictions", tmp_path / "none.toml", "does not exist"),
    ):
        with pytest.raises(typer.Exit) as ended:
            command(predictions, toml, tmp_path / "out")
        assert ended.value.exit_code == 2
        assert said in capsys.readouterr().err


def test_predictions_that_the_calibration_did_not_scale_are_refused(made: Path, tmp_path: Path) -> None:
    """Raw voxels are not cut at a calibrated threshold, nor those of a file that does not say what it holds."""
    for slope, said in ((0.5, "slope 0.5 and intercept 0.0, not by slope 1.0"), (None, "predict that set again")):
        store([replace(make(Asked()), voxel_slope=slope)], tmp_path)
        with pytest.raises(ValueError, match=said):
            evaluate(tmp_path, made / "c.toml", tmp_path / "out", FEW)


def test_recommendations_follow_the_numbers() -> None:
    """Advice hardens as outlines fail or answers err, and few studies give none."""

    def of(value: float) -> Measure:
        return Measure(value=value, n=50)

    assert "then it may be used" in recommendation(SURE, 50, of(1.0), of(0.02))
    assert "Correct the outline" in recommendation(SURE, 50, of(1.0), of(0.15))
    assert "by hand" in recommendation(SURE, 50, of(1.0), of(0.5))
    assert "20 % of these were false alarms" in recommendation(SURE, 50, of(0.8), of(0.02))
    assert "Do not be reassured: 10 %" in recommendation(NONE, 50, of(0.9), of(0.0))
    assert "nothing asks for more" in recommendation(NONE, 50, of(1.0), of(0.0))
    assert "Too few" in recommendation(SURE, 5, of(1.0), of(0.0))
    assert "no second reader" in recommendation(UNSURE, 5, of(1.0), of(0.0))


def test_a_number_is_written_with_its_interval_or_its_reason() -> None:
    """No minus zero, no invented interval."""
    assert number(Measure(value=0.5, low=0.25, high=0.75, n=9), 2) == "0.50 (0.25 to 0.75)"
    assert number(Measure(value=-0.0001, n=2), 2, "ml") == "0.00 ml"
    assert number(Measure(value=None, n=0, missing="of x")) == "cannot be computed because of x"
