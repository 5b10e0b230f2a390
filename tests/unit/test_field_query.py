"""Which studies to annotate next: doubtful ones, and not the same one twice."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from training.calibration.scaling import Scale
from training.commands.query import query as command
from training.field.query import query
from training.predictions import Prediction


def study(name: str, logit: float, place: tuple[float, float], vague: float = 0.1) -> Prediction:
    """Return a prediction of tumour `logit` at `place` among the descriptions."""
    shape = (2, 8, 8)
    return Prediction(
        name=name,
        probability=np.full(shape, 0.5, np.float16),
        entropy=np.full(shape, vague, np.float16),
        mutual_information=np.full(shape, vague / 2, np.float16),
        cam=np.zeros((2, 1, 1), np.float16),
        tumour_logits=np.array([logit, logit]),
        risks=np.zeros(2),
        truth=None,
        source="test",
        tumour=None,
        spacing=(1.0, 1.0, 1.0),
        patient="",
        strata=(),
        time_days=None,
        event=None,
        covariates={},
        log_hazard=None,
        embedding=np.array(place, np.float32),
    )


def keep(folder: Path, studies: list[Prediction]) -> Path:
    for item in studies:
        item.save(folder)
    return folder


def test_the_most_doubtful_comes_first_and_says_why(tmp_path: Path) -> None:
    """Among studies alike in place the one near .5 leads; the calibration moves what is near .5."""
    folder = keep(
        tmp_path, [study(n, x, (float(i % 3), 0)) for i, (n, x) in enumerate([("a", 6), ("b", 0), ("c", -3)])]
    )
    (first,) = query(folder, 1)
    assert (first.name, first.place) == ("b", 1)
    assert "undecided" in first.reason
    assert query(folder, 1, scale=Scale(slope=1, intercept=3))[0].name == "c"


def test_a_twin_waits(tmp_path: Path) -> None:
    """Of two equal doubtful studies one is taken; then come other kinds, though less doubtful; the twin is last."""
    twins = [study("t1", 0.0, (0, 0), 0.6), study("t2", 0.0, (0, 0), 0.6)]
    others = [study("o1", 3.0, (4, 4), 0.2), study("o2", 5.0, (-4, 4), 0.1)]
    order = [q.name for q in query(keep(tmp_path, [*twins, *others]), 4)]
    assert order[0] == "t1"
    assert order[-1] == "t2"


def test_what_is_annotated_is_kept_away_from(tmp_path: Path) -> None:
    """A study beside an annotated one gives way to one that is like none of them, and that is said."""
    pool = keep(tmp_path / "pool", [study("near", 0.0, (0, 0), 0.5), study("far", 2.0, (9, 9), 0.3)])
    known = keep(tmp_path / "known", [study("k", 0.0, (0, 0.01))])
    assert query(pool, 1)[0].name == "near"
    (first,) = query(pool, 1, known)
    assert first.name == "far"
    assert "unlike" in first.reason


def test_all_are_ranked_once(tmp_path: Path) -> None:
    """Asked for more than there are, each study comes once."""
    rng = np.random.default_rng(1)
    folder = keep(tmp_path, [study(f"s{i}", rng.normal(0, 3), tuple(rng.normal(size=2))) for i in range(12)])
    names = [q.name for q in query(folder, 50)]
    assert sorted(names) == sorted({f"s{i}" for i in range(12)})
    assert names == [q.name for q in query(folder, 50)]


def test_the_command_writes_both_tables(tmp_path: Path) -> None:
    """CSV and JSON hold the same rows; predictions without embedding end with 2 and name the file."""
    folder = keep(tmp_path / "pool", [study("a", 0, (0, 0)), study("b", 2, (1, 1))])
    app = typer.Typer()
    app.command()(command)
    assert CliRunner().invoke(app, [str(folder), "--out", str(tmp_path / "next")]).exit_code == 0
    rows = json.loads((tmp_path / "next.json").read_text())
    with (tmp_path / "next.csv").open() as file:
        assert [row["name"] for row in csv.DictReader(file)] == [row["name"] for row in rows] == ["a", "b"]
    replace(study("old", 0, (0, 0)), embedding=np.zeros(0, np.float32)).save(folder)
    told = CliRunner().invoke(app, [str(folder), "--out", str(tmp_path / "next")])
    assert told.exit_code == 2
    with pytest.raises(ValueError, match=r"old\.npz"):
        query(folder, 1)
