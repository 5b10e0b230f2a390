"""Explanation: cases are told right from wrong, maps are measured, pictures are drawn."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from tests.networks import network
from tests.predictions import SHAPE, Told, keep
from training.commands.explain import explain_command
from training.data.sample import Sample
from training.explain.cases import Fit, Outcome, Point, balanced, case_of, data_words
from training.explain.explain import Request, explain
from training.explain.gradcam import Target, View, grad_cams, load_network, randomised
from training.explain.measure import exact_cam, score, summarise
from training.predictions import Prediction
from training.settings import load

CONFIG = Path("training/configs/brain-mri.toml")
STUDIES = (
    Told(name="a-found", shift=1),
    Told(name="b-missed", shift=None, logit=-3),
    Told(name="c-alarm", tumour=0, shift=0),
    Told(name="d-calm", tumour=0, shift=None, logit=-3),
    Told(name="e-shifted", shift=4),
    Told(name="f-unknown", tumour=None, shift=None),
)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Return predictions and samples with every outcome."""
    for told in STUDIES:
        keep(told, tmp_path / "predictions", tmp_path / "samples")
    return tmp_path / "predictions", tmp_path / "samples"


def test_answers_are_right_or_wrong_by_the_operating_point(folders: tuple[Path, Path]) -> None:
    """Outcome, Dice and volume follow from the threshold; without a label there is no outcome."""
    read = {told.name: Prediction.load(folders[0] / f"{told.name}.npz") for told in STUDIES}
    cases = {name: case_of(prediction, Point()) for name, prediction in read.items()}
    found = [cases[told.name].outcome for told in STUDIES]
    yes, miss, alarm, calm = Outcome
    assert found == [yes, miss, alarm, calm, yes, None]
    assert cases["a-found"].dice == pytest.approx(0.9)
    assert [cases[name].fit for name in ("a-found", "e-shifted", "b-missed", "d-calm")] == [*Fit, None]
    assert cases["a-found"].volume_ml == pytest.approx(2 * 10 * 10 * 4 / 1000)
    assert case_of(read["a-found"], Point(threshold=0.99)).outcome is miss
    assert case_of(read["a-found"], Point(mask_threshold=0.96)).dice == 0


def test_cases_are_drawn_by_seed_and_balanced(folders: tuple[Path, Path]) -> None:
    """As many of each group as there are, at most `each`; the same seed draws the same, another another."""
    case = case_of(Prediction.load(folders[0] / "a-found.npz"), Point())
    groups = {"right": [case] * 9, "wrong": [case], "none": []}
    assert [len(found) for found in balanced(groups, 3, seed=1).values()] == [3, 1, 0]
    many = {"right": list(range(50))}
    first, again, other = (balanced(many, 5, seed) for seed in (1, 1, 2))  # type: ignore[arg-type]  # numbers stand for cases
    assert first == again != other


def test_pointing_and_energy_are_worked_by_hand() -> None:
    """Half the map inside a quarter of the slice is a gain of 2; the peak counts where it lies."""
    tumour = np.zeros((20, 20), bool)
    tumour[:10, :10] = True
    even = np.ones((20, 20), np.float32)
    values = even.copy()
    values[0, 0] = 101
    found = score(values, tumour, (1.0, 1.0))
    assert found.pointing == found.near == 1
    assert found.energy == pytest.approx(200 / 500)
    assert found.gain == pytest.approx(1.6)
    values[0, 0], values[0, 17] = 1, 101
    beside = score(values, tumour, (1.0, 1.0))
    assert (beside.pointing, beside.near) == (0, 1)
    assert score(values, tumour, (1.0, 2.0)).near == 0
    assert score(even, tumour, (1.0, 1.0)).gain == pytest.approx(1)
    assert score(0 * even, tumour, (1.0, 1.0)).energy == 0
    measured = summarise({"map": [found, beside]}, seed=1)["map"]
    assert (measured.slices, measured.pointing, measured.near) == (2, 0.5, 1)
    low, high = measured.energy_interval
    assert low <= measured.energy <= high
    assert summarise({"map": [found]}, seed=1)["map"].energy_interval == (0, 1)
    with pytest.raises(ValueError, match="cannot be scored"):
        score(even, ~even.astype(bool), (1.0, 1.0))


def test_the_shipped_map_keeps_its_cells_in_place(folders: tuple[Path, Path]) -> None:
    """A hot cell is highest at its own middle, on the sample's grid."""
    large = exact_cam(Prediction.load(folders[0] / "a-found.npz"), 1)
    assert large.shape == SHAPE[1:]
    rows, columns = np.nonzero(large == large.max())
    assert rows.max() < 16
    assert columns.min() + columns.max() == 16 + 31
    assert large.max() == pytest.approx(1 / (1 + np.exp(-4)), abs=0.04)


@torch.no_grad()
def test_the_deepest_grad_cam_is_the_exact_map_where_that_is_above_its_bias() -> None:
    """The tumour score is linear in the deepest map, so that Grad-CAM there is known."""
    net, recipe = network(), load(CONFIG).recipe
    # Random weights find no evidence here; turned round they do.
    for name, weights in net.named_parameters():
        weights.mul_(-1 if "detect" in name else 1)
    image = np.random.default_rng(3).normal(size=(1, 6, 32, 48)).astype(np.float16)
    view = View.of(image, 2, recipe)
    (deepest,) = grad_cams(net, view, Target.TUMOUR, slice(-1, None))
    masks = torch.ones(1, 256, 1, 1), torch.ones(1, 32)
    features = net.encoder(view.stack)[-1].expand(3, -1, -1, -1)
    evidence = net.heads(features, *masks)[0] - net.heads(0 * features, *masks)[0]
    cells = evidence[:1].clamp(min=0) / evidence[0].numel()
    large = torch.nn.functional.interpolate(cells, (32, 48), mode="bilinear")[0, 0].numpy()
    assert np.allclose(deepest, large, atol=1e-6)
    assert deepest.max() > 0


def test_grad_cam_of_odd_sizes_has_a_map_a_level() -> None:
    """Padding is cut off again, maps are not negative, and another network gives other maps."""
    net, recipe = network(), load(CONFIG).recipe
    image = np.random.default_rng(3).normal(size=(1, 6, 40, 37)).astype(np.float16)
    view = View.of(image, 0, recipe)
    maps = grad_cams(net, view, Target.OUTLINE)
    assert [values.shape for values in maps] == [(40, 37)] * 5
    assert all(values.min() >= 0 for values in maps)
    assert max(values.max() for values in maps) > 0
    other = grad_cams(randomised(net, 1), view, Target.OUTLINE)
    assert not np.allclose(maps[0], other[0])


def test_explaining_leaves_pictures_measures_and_a_page(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """Each chosen case has its pictures, of the right size and not blank; no picture or page names a study."""
    torch.save(network().state_dict(), tmp_path / "stage.pt")
    out = tmp_path / "out"
    request = Request(
        predictions=folders[0], samples=folders[1], out=out, network=(tmp_path / "stage.pt", CONFIG), each=2, most=2
    )
    document = explain(request)
    assert document["outcomes"] == {str(o): n for o, n in zip(Outcome, (2, 1, 1, 1), strict=True)}
    assert document["maps"]["shipped map, exact"]["pointing"] == 1
    assert document["maps"]["even map"]["gain"] == pytest.approx(1)
    assert json.loads((out / "explain.json").read_text())["cases"].keys() == document["cases"].keys()
    cases = [f"{kind}-case-0{n}.png" for kind in ("uncertainty", "gradcam") for n in range(1, 6)]
    expected = {*cases, "panel-detection.png", "panel-outlines.png", "measures.png"}
    assert {path.name for path in out.glob("*.png")} == expected
    for name in expected:
        with Image.open(out / name) as picture:
            assert np.asarray(picture.convert("L")).std() > 10
            assert name[:4] != "unce" or picture.size == ((12 * 110), int((8 + 1.15) * 110))
    page = (out / "explain.html").read_text()
    assert "synthetic data (phantom test)" in page
    assert not any(told.name in page for told in STUDIES)
    assert page.count("data:image/jpeg;base64,") == len(expected)


def test_real_tumours_alone_can_be_explained_without_a_network(tmp_path: Path) -> None:
    """A cohort with one outcome, two channels and no Grad-CAM still gets its pictures."""
    keep(Told(name="x"), tmp_path / "predictions", tmp_path / "samples")
    sample = Sample.load(tmp_path / "samples" / "x.npz")
    Sample(**{**sample.__dict__, "image": np.repeat(sample.image, 2, axis=0)}).save(tmp_path / "samples")
    explain(Request(predictions=tmp_path / "predictions", samples=tmp_path / "samples", out=tmp_path / "out"))
    assert (tmp_path / "out" / "uncertainty-case-01.png").stat().st_size > 10_000
    assert not list((tmp_path / "out").glob("gradcam*"))


def test_wrong_folders_and_files_are_named(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """A missing sample, a sample of another size, a foreign file and a foreign checkpoint each say what to mend."""
    request = Request(predictions=folders[0], samples=folders[1], out=tmp_path / "out")
    sample = Sample.load(folders[1] / "a-found.npz")
    Sample(**{**sample.__dict__, "image": sample.image[:, :, :16]}).save(folders[1])
    with pytest.raises(ValueError, match=r"sample a-found is .* predict them again"):
        explain(request)
    (folders[1] / "a-found.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"no sample in .* for a-found;"):
        explain(request)
    shutil.copy(folders[1] / "c-alarm.npz", folders[0] / "a-found.npz")
    with pytest.raises(ValueError, match=r"a-found\.npz is not a prediction"):
        explain(request)
    torch.save({"other": torch.zeros(1)}, tmp_path / "stage.pt")
    with pytest.raises(ValueError, match=r"stage\.pt does not fit the network"):
        load_network(tmp_path / "stage.pt", CONFIG)
    (tmp_path / "no.toml").write_text("seed = 'x'")
    with pytest.raises(ValueError, match=r"no\.toml is no settings file"):
        load_network(tmp_path / "stage.pt", tmp_path / "no.toml")


def test_the_command_refuses_in_one_sentence(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """Bad input ends with code 2; a run that has one set of predictions may be named by its folder."""
    app = typer.Typer()
    app.command()(explain_command)
    runner = CliRunner()
    words = ["--samples", str(folders[1]), "--out", str(tmp_path / "out")]
    assert runner.invoke(app, [str(tmp_path / "nowhere"), *words]).exit_code == 2
    assert runner.invoke(app, [str(folders[0]), *words, "--checkpoint", "x.pt"]).exit_code == 2
    (tmp_path / "run" / "predictions").mkdir(parents=True)
    shutil.copytree(folders[0], tmp_path / "run" / "predictions" / "test")
    done = runner.invoke(app, [str(tmp_path / "run"), *words, "--each", "1"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "explain.html").exists()


def test_a_caption_never_lets_phantoms_pass_for_patients() -> None:
    """Synthetic, mixed and real sources are told apart."""
    assert data_words(["phantom FLAIR"]) == "synthetic data (phantom FLAIR)"
    assert data_words(["real STS", "phantom FLAIR"]).startswith("partly synthetic data")
    assert data_words(["real STS"]) == "data: real STS"
