"""Every step of training, one after the other, on a cohort of a few."""

import json
from pathlib import Path

from rich.console import Console

from daemon.inference.bundle import load_bundle
from daemon.inference.session import Model, verify
from training.quickstart import quickstart, settings

TINY = {
    "data.train": 12,
    "data.tune": 12,
    "data.test": 8,
    "network.widths": (16, 32, 32, 32, 32),
    "stages.warmup_steps": 6,
    "stages.joint_steps": 2,
    "stages.head_epochs": 2,
    "stages.settle_epochs": 1,
    "stages.validate_every": 0,
    "stages.batch": 4,
    "stages.crop": 32,
    "bundle.passes": 2,
}


def test_every_step_follows_from_the_one_before(tmp_path: Path) -> None:
    """A sealed bundle that the daemon loads, and a report, explanation, comparison and sizes to look at."""
    bundle = quickstart(settings().changed(TINY), tmp_path, Console(quiet=True))
    assert verify(Model(load_bundle(bundle), threads=1)) == ()
    card = (bundle / "card.md").read_text(encoding="utf-8")
    assert "shifted synthetic studies" in card
    assert "NOT guaranteed" in card
    for page in ("evaluation/test/report.html", "evaluation/shifted/report.html", "explain/explain.html"):
        assert (tmp_path / page).stat().st_size > 10_000
    compared = json.loads((tmp_path / "compare" / "compare.json").read_text(encoding="utf-8"))
    assert {test["first"] for test in compared["tests"]} | {test["second"] for test in compared["tests"]} == {
        "FP32",
        "INT8",
    }
    rows = json.loads((tmp_path / "shrink" / "shrink.json").read_text(encoding="utf-8"))
    assert "pruned int8" in json.dumps(rows)
