"""Comparison: paired tests against hand-worked and library values, whole runs, designs."""

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from scipy import stats
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from tests.predictions import Told, keep
from training.commands.compare import compare_command
from training.compare import costs, design
from training.compare.cohort import read
from training.compare.compare import Request, compare
from training.compare.paired import bootstrap, delong, holm, mcnemar, rank_biserial, wilcoxon
from training.evaluation.bootstrap import resamples

COUNT = 12
NETWORK = "[network]\nwidths = [4, 8]\n"


def _study(number: int, shift: int = 1) -> Told:
    """Return a study: the first seven have a tumour, all have follow-up, risk falls with time."""
    tumour = int(number < 7)
    logit = (2 if tumour else -2) + 0.1 * number
    return Told(
        name=f"s{number:02d}", tumour=tumour, shift=shift if tumour else None, logit=logit, risk=-0.1 * number,
        time_days=100.0 + 10 * number, event=number % 2,
    )  # fmt: skip


def _worse(number: int) -> Told:
    """Return the same study outlined further off, two answered wrong, risks in another order."""
    told = _study(number, shift=5 - number % 3)
    changed = {"logit": -told.logit if number in {1, 8} else told.logit, "risk": float(np.sin(number))}
    return Told(**{**told.__dict__, **changed})


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, Path]:
    """Return two runs over the same studies, the first better."""
    for number in range(COUNT):
        keep(_study(number), tmp_path / "good")
        keep(_worse(number), tmp_path / "bad")
    return {"good": tmp_path / "good", "bad": tmp_path / "bad"}


def test_wilcoxon_is_exact_and_knows_equal_runs() -> None:
    """Five gains of five: two of the 32 sign patterns are as extreme."""
    low = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    high = low + np.array([0.01, 0.02, 0.03, 0.04, 0.05])
    assert wilcoxon(high, low) == pytest.approx(2 / 32)
    assert wilcoxon(low, low) == 1
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(2, 30))
    assert wilcoxon(a, b) == pytest.approx(stats.wilcoxon(a, b).pvalue)
    # Differences +1, +2, -3 have the ranks 1, 2, 3: (1 + 2 - 3) / 6.
    assert rank_biserial(np.array([1.0, 2, 0]), np.array([0.0, 0, 3])) == 0
    assert rank_biserial(high, low) == pytest.approx(1)
    assert rank_biserial(low, low) == 0


def test_mcnemar_counts_only_discordant_studies() -> None:
    """1 against 7: twice (1 + 8) of 256 patterns; agreement alone says nothing."""
    first = np.array([True] * 8 + [False] * 7)
    second = np.array([True] * 7 + [False] * 1 + [True] * 7)
    found = mcnemar(first, second)
    assert (found.first_only, found.second_only) == (1, 7)
    assert found.p == pytest.approx(2 * 9 / 256)
    assert mcnemar(first, first).p == 1


def test_delong_is_worked_by_hand() -> None:
    """Positives .9 .6 .4 lie above 2, 2, 1 of the negatives .5 .3; placements give area and variance."""
    label = np.array([True, True, True, False, False])
    areas = delong([np.array([0.9, 0.6, 0.4, 0.5, 0.3])], label)
    assert areas.auc[0] == pytest.approx((1 + 1 + 0.5) / 3)
    of_positives, of_negatives = np.var([1, 1, 0.5], ddof=1), np.var([2 / 3, 1], ddof=1)
    assert areas.covariance[0, 0] == pytest.approx(of_positives / 3 + of_negatives / 2)


def test_delong_agrees_with_its_definition_ties_included() -> None:
    """Areas equal scikit-learn's; the test's variance equals that of all pairs compared one by one."""
    rng = np.random.default_rng(7)
    label = rng.random(40) < 0.4
    a, b = (np.round(rng.normal(size=40) + label * gain, 1).astype(np.float64) for gain in (2.0, 0.7))
    areas = delong([a, b], label)
    assert areas.auc == pytest.approx([roc_auc_score(label, a), roc_auc_score(label, b)])
    psi = [(s[label][:, None] > s[~label]) + 0.5 * (s[label][:, None] == s[~label]) for s in (a, b)]
    tens, ones = (np.array([p.mean(axis=axis) for p in psi]) for axis in (1, 0))
    contrast = np.array([1.0, -1.0])
    variance = contrast @ (np.cov(tens) / label.sum() + np.cov(ones) / (~label).sum()) @ contrast
    z = abs(areas.auc[0] - areas.auc[1]) / np.sqrt(variance)
    low, high, p = areas.difference(0, 1)
    assert p == pytest.approx(2 * stats.norm.sf(z))
    assert (high - low) / 2 == pytest.approx(1.959964 * np.sqrt(variance))
    assert areas.difference(0, 0)[2] == 1


def test_delong_says_where_it_cannot_tell() -> None:
    """Perfect against reversed has no variance, so no p; one positive is too few."""
    label = np.array([True, True, False, False])
    perfect = np.array([4.0, 3, 2, 1])
    assert np.isnan(delong([perfect, -perfect], label).difference(0, 1)[2])
    with pytest.raises(ValueError, match="1 studies with and 3 without tumour"):
        delong([perfect], np.array([True, False, False, False]))


def test_holm_steps_down_and_leaves_out_what_has_no_p() -> None:
    """Four p sorted and multiplied by 4, 3, 2, 1, never falling; order is kept."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([0.02, float("nan"), 0.03]) == pytest.approx([0.04, float("nan"), 0.04], nan_ok=True)


def test_resamples_keep_a_patients_studies_together() -> None:
    """A patient's two studies come as often as each other; the seed alone decides."""
    drawn = resamples(["a", "a", "b", "c"], 50, seed=3)
    assert all((indices == 0).sum() == (indices == 1).sum() for indices in drawn)
    again = resamples(["a", "a", "b", "c"], 50, seed=3)
    assert all(np.array_equal(a, b) for a, b in zip(drawn, again, strict=True))
    values = np.array([1.0, 2, 3, 4])
    low, high, p = bootstrap(lambda i: float(values[i].mean()), drawn)
    assert 1 <= low < values.mean() < high <= 4
    assert p == pytest.approx(2 / 51)


def test_a_better_run_is_found_and_drawn(runs: dict[str, Path], tmp_path: Path) -> None:
    """Dice is shown to differ; figures agree with the studies; pictures and page are there."""
    document = compare(Request(folders=runs, out=tmp_path / "out", resamples=200))
    tests = {test["metric"]: test for test in document["tests"]}
    assert tests["Dice"]["p"] == pytest.approx(2 / 2**7)
    assert tests["Dice"]["p_holm"] == pytest.approx(4 * 2 / 2**7)
    assert tests["right answers"]["difference"] == pytest.approx(2 / COUNT)
    assert tests["C-index"]["values"][0] == 1
    assert tests["Dice"]["effect"] == "rank-biserial correlation +1.00"
    good = document["runs"]["good"]["figures"]
    assert good["Dice"]["value"] == pytest.approx(0.9)
    assert (good["sensitivity"]["value"], good["specificity"]["value"]) == (1, 1)
    assert json.loads((tmp_path / "out" / "compare.json").read_text())["studies"] == COUNT
    with Image.open(tmp_path / "out" / "curves.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 10
        assert picture.size[0] == int(10.4 * 110)
    page = (tmp_path / "out" / "compare.html").read_text()
    assert "synthetic data (phantom test)" in page
    assert page.count("data:image/jpeg;base64,") == 2


def test_equal_runs_have_p_of_one(runs: dict[str, Path], tmp_path: Path) -> None:
    """Nothing differs, nothing crashes, nobody is ahead."""
    document = compare(Request(folders={"a": runs["bad"], "b": runs["bad"]}, out=tmp_path / "out", resamples=50))
    assert [(t["difference"], t["p"], t["p_holm"], t["ahead"]) for t in document["tests"]] == [(0, 1, 1, None)] * 4


def test_only_what_the_data_tell_is_compared(tmp_path: Path) -> None:
    """Tumours without follow-up give Dice and right answers, neither ROC nor C."""
    for run, shift in (("a", 1), ("b", 2)):
        for number in range(4):
            keep(Told(name=str(number), shift=shift), tmp_path / run)
    folders = {run: tmp_path / run for run in "ab"}
    document = compare(Request(folders=folders, out=tmp_path / "out", resamples=50))
    assert [test["metric"] for test in document["tests"]] == ["Dice", "right answers"]
    assert "specificity" not in document["runs"]["a"]["figures"]


def test_runs_of_other_studies_or_truths_are_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    """The odd studies are named; `common` leaves them out; a study whose truth changed is no pair."""
    keep(Told(name="extra"), runs["good"])
    with pytest.raises(ValueError, match="good has extra; predict the missing ones or give --common"):
        read(runs, {})
    assert len(read(runs, {}, common=True).studies) == COUNT
    (runs["good"] / "extra.npz").unlink()
    keep(Told(name="s00", tumour=0), runs["bad"])
    with pytest.raises(ValueError, match="truth of s00 in bad is not that of the first run"):
        read(runs, {})
    with pytest.raises(ValueError, match="at least two runs"):
        read({"good": runs["good"]}, {})
    with pytest.raises(FileNotFoundError, match="no predictions"):
        read({"good": runs["good"], "none": tmp_path / "none"}, {})


def test_costs_come_from_the_benchmarks_file(runs: dict[str, Path], tmp_path: Path) -> None:
    """Bytes become MB, the fewest threads' latency counts, and a trade-off is drawn; unknown names are refused."""
    row = {"name": "good", "parameters": 5, "size": 2_500_000, "speed": {"2": {"ms": 3.0}, "1": {"ms": 5.0}}}
    (tmp_path / "shrink.json").write_text(json.dumps({"rows": [row, {"name": "other"}], "machine": {}}))
    found = costs.read(tmp_path / "shrink.json", runs)
    assert found == {"good": costs.Cost(parameters=5, megabytes=2.5, milliseconds=5.0)}
    compare(Request(folders=runs, out=tmp_path / "out", costs=tmp_path / "shrink.json", resamples=50))
    assert (tmp_path / "out" / "trade-off.png").stat().st_size > 5000
    with pytest.raises(ValueError, match="knows good, other, but the runs are x"):
        costs.read(tmp_path / "shrink.json", {"x": 1})


def _design(folder: Path, single_network: str, single: str = "single.toml") -> Path:
    (folder / "shared.toml").write_text(NETWORK)
    (folder / single).write_text(single_network)
    path = folder / "design.toml"
    path.write_text(f"""multitask = "shared"
[single]
segmentation = "outline"
[runs]
shared = {{ predictions = "good", settings = "shared.toml" }}
outline = {{ predictions = "bad", settings = "{single}" }}
""")
    return path


def test_a_design_tests_sharing_task_by_task(runs: dict[str, Path], tmp_path: Path) -> None:
    """Only the designed test is done, so that Holm has nothing to adjust, and a sentence says what came out."""
    assert set(runs) == {"good", "bad"}
    plan = design.load(_design(tmp_path, NETWORK + "do_cls = false\ndo_surv = false\n"))
    document = compare(Request(folders=plan.folders, out=tmp_path / "out", design=plan, resamples=200))
    (test,) = document["tests"]
    assert (test["metric"], test["first"], test["second"]) == ("Dice", "shared", "outline")
    assert test["p_holm"] == test["p"] == pytest.approx(2 / 2**7)
    assert document["verdicts"][0].startswith("Sharing helps segmentation: Dice +0.")


def test_a_design_of_unequal_models_is_refused(tmp_path: Path) -> None:
    """Another size, a model of several tasks, or a run without files would not show what sharing does."""
    with pytest.raises(ValueError, match=r"outline is to do segmentation alone .* correct its do_seg|was trained for"):
        design.load(_design(tmp_path, NETWORK))
    wider = NETWORK.replace("4", "6") + "do_cls = false\ndo_surv = false\n"
    with pytest.raises(ValueError, match=r"differ in \[network\] beyond their tasks"):
        design.load(_design(tmp_path, wider))
    path = _design(tmp_path, NETWORK)
    path.write_text(path.read_text().replace('"outline"', '"absent"'))
    with pytest.raises(ValueError, match="names absent but has no such table"):
        design.load(path)
    path.write_text("margin = 1")
    with pytest.raises(ValueError, match="is no design"):
        design.load(path)


def test_the_command_compares_and_refuses(runs: dict[str, Path], tmp_path: Path) -> None:
    """Folders by name come in; a word that is no pair ends with code 2."""
    app = typer.Typer()
    app.command()(compare_command)
    runner = CliRunner()
    words = [f"{name}={folder}" for name, folder in runs.items()]
    done = runner.invoke(app, [*words, "--out", str(tmp_path / "out"), "--against", "bad"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "compare.html").exists()
    assert runner.invoke(app, ["good", "--out", str(tmp_path / "out")]).exit_code == 2
    assert runner.invoke(app, [words[0], words[0], "--out", str(tmp_path / "out")]).exit_code == 2
    assert runner.invoke(app, [*words, "--out", str(tmp_path / "out"), "--against", "x"]).exit_code == 2
