"""Predictions: the daemon's own inference on prepared samples, kept with the truth."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from daemon.imaging.steps import Prepared
from daemon.imaging.volume import Grid
from daemon.inference.bundle import load_bundle
from daemon.inference.mc_dropout import infer
from daemon.inference.session import Model
from tests.tiny_bundle import make_tiny_bundle
from training.data.sample import Sample
from training.predictions import load_all, predict

SPACING = (3.0, 1.0, 1.0)


def test_predictions_are_the_daemons_and_come_back_as_they_were(tmp_path: Path) -> None:
    """Maps and passes equal those of the daemon's inference; odd sizes are padded for it and cut back."""
    model = Model(load_bundle(make_tiny_bundle(tmp_path / "bundle")), threads=1)
    image = np.random.default_rng(2).normal(size=(1, 8, 40, 52)).astype(np.float16)
    mask = np.zeros((8, 40, 52), np.uint8)
    sample = Sample(
        name="a", source="test", image=image, mask=mask, tumour=0, spacing=SPACING, strata=("x",), covariates={"age": 5}
    )
    predict(model, [sample], tmp_path / "kept")
    (kept,) = load_all(tmp_path / "kept")
    padded = np.pad(image.astype(np.float32), [(0, 0), (0, 0), (0, 8), (0, 12)], constant_values=float(image.min()))
    grid = Grid(size=(8, 48, 64), spacing=SPACING, origin=(0.0, 0.0, 0.0))
    raw = infer(model, Prepared(array=padded, grid=grid), "a")
    assert np.array_equal(kept.probability, raw.probability[:, :40, :52].astype(np.float16))
    assert np.array_equal(kept.mutual_information, raw.mutual_information[:, :40, :52].astype(np.float16))
    assert kept.tumour_logits.tolist() == list(raw.tumour_logits)
    assert kept.truth is not None
    assert (kept.truth.shape, kept.strata, kept.covariates, kept.tumour) == (mask.shape, ("x",), {"age": 5}, 0)
    assert kept.voxel_ml == pytest.approx(0.003)
    assert (kept.voxel_slope, kept.voxel_intercept) == (1.0, 0.0)


def test_a_picture_is_read_as_the_daemon_reads_one(tmp_path: Path) -> None:
    """A single slice stands in its neighbours' place too; maps and activation are of that slice alone."""
    model = Model(load_bundle(make_tiny_bundle(tmp_path / "bundle")), threads=1)
    image = np.random.default_rng(2).normal(size=(1, 1, 32, 48)).astype(np.float16)
    picture = Sample(name="a", source="test", image=image, mask=None, tumour=1, spacing=SPACING)
    predict(model, [picture], tmp_path / "kept")
    (kept,) = load_all(tmp_path / "kept")
    count = model.manifest.recipe.neighbours
    grid = Grid(size=(count, 32, 48), spacing=SPACING, origin=(0.0, 0.0, 0.0))
    raw = infer(model, Prepared(array=np.repeat(image.astype(np.float32), count, axis=1), grid=grid), "a")
    assert np.array_equal(kept.probability, raw.probability[[count // 2]].astype(np.float16))
    assert np.array_equal(kept.cam, raw.cam[[count // 2]].astype(np.float16))
    assert kept.risks.tolist() == list(raw.risks)


def small(name: str, value: float = 0.0) -> Sample:
    """Return a study of even brightness."""
    image, mask = np.full((1, 8, 32, 32), value, np.float16), np.zeros((8, 32, 32), np.uint8)
    return Sample(name=name, source="test", image=image, mask=mask, tumour=0, spacing=SPACING)


def test_a_stopped_prediction_goes_on_and_an_outdated_one_is_made_anew(tmp_path: Path) -> None:
    """Kept is what is of the same model and sample; another image, truth or calibration is read again, others leave."""
    model = Model(load_bundle(make_tiny_bundle(tmp_path / "bundle")), threads=1)
    out = tmp_path / "kept"
    first = {path: path.stat().st_ino for path in predict(model, [small("a"), small("b")], out)}
    assert {path: path.stat().st_ino for path in predict(model, [small("a"), small("b")], out)} == first
    drawn = replace(small("b"), mask=np.ones((8, 32, 32), np.uint8))
    for changed in (small("b", 1.0), drawn, replace(drawn, tumour=1)):
        kept, anew = (path.stat().st_ino for path in predict(model, [small("a"), changed], out))
        assert kept == first[out / "a.npz"]
        assert anew != first[out / "b.npz"]
        first[out / "b.npz"] = anew
    calibration = replace(model.manifest.calibration, voxel_slope=2.0)
    other = Model(replace(model.bundle, manifest=replace(model.manifest, calibration=calibration)), threads=1)
    (path,) = predict(other, [small("a")], out)
    assert path.stat().st_ino != first[path]
    (scaled,) = load_all(out)
    assert (scaled.voxel_slope, scaled.voxel_intercept) == (2.0, 0.0)
    assert [p.name for p in out.iterdir()] == ["a.npz"]


def test_what_an_earlier_version_wrote_is_read_again(tmp_path: Path) -> None:
    """A file that does not say how its voxels were scaled is made anew, though it is of the same model and sample."""
    model = Model(load_bundle(make_tiny_bundle(tmp_path / "bundle")), threads=1)
    (path,) = predict(model, [small("a")], tmp_path / "kept")
    with np.load(path) as stored:
        arrays = dict(stored)
    facts = json.loads(str(arrays.pop("facts")))
    older = {name: fact for name, fact in facts.items() if not name.startswith("voxel_")}
    np.savez_compressed(path, **arrays, facts=json.dumps(older))
    assert load_all(path.parent)[0].voxel_slope is None
    predict(model, [small("a")], tmp_path / "kept")
    assert load_all(path.parent)[0].voxel_slope == 1.0


def test_samples_are_not_taken_for_predictions(tmp_path: Path) -> None:
    """A folder of samples as the place to write is refused and left as it is."""
    model = Model(load_bundle(make_tiny_bundle(tmp_path / "bundle")), threads=1)
    content = small("a").save(tmp_path / "samples").read_bytes()
    with pytest.raises(ValueError, match="no prediction"):
        predict(model, [small("a"), small("b")], tmp_path / "samples")
    assert [p.read_bytes() for p in (tmp_path / "samples").iterdir()] == [content]


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    """No predictions is no evaluation."""
    with pytest.raises(FileNotFoundError, match="no predictions"):
        load_all(tmp_path)
