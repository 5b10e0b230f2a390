"""MC-dropout is real, cheap in the right places, and reproducible."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from daemon.domain.reasons import Reason
from daemon.errors import UnprocessableError
from daemon.imaging.steps import neighbour_stack
from daemon.inference.mc_dropout import CELL, Inference, boxes, draw, infer, seed_of
from daemon.inference.session import Model
from tests.manifests import BRAIN
from tests.networks import exported, fp32_model, prepared
from training.network import MultitaskNet

PASSES = 30


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[MultitaskNet, Model]:
    """The torch network and its FP32 graphs."""
    net, graphs = exported(tmp_path_factory.mktemp("graphs"))
    return net, fp32_model(graphs)


def everywhere(model: Model, rate: float = 0.1) -> Model:
    """Return a model that explores every voxel."""
    manifest = replace(
        model.manifest,
        calibration=replace(model.manifest.calibration, explore_threshold=0.0),
        dropout=replace(model.manifest.dropout, rate=rate),
    )
    return Model(replace(model.bundle, manifest=manifest), threads=1)


def naive(net: MultitaskNet, key: str) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Return mean, SD and risks of plain torch passes with the same masks, the encoder run every time."""
    study = prepared()
    stack = torch.from_numpy(neighbour_stack(study.array, BRAIN.recipe, np.arange(study.array.shape[1])))
    rng = np.random.Generator(np.random.Philox(seed_of(key)))
    passes, risks = [], []
    with torch.no_grad():
        for _ in range(PASSES):
            masks = {name: torch.from_numpy(m) for name, m in draw(BRAIN.dropout, rng).items()}
            maps = net.encoder(stack)
            passes.append(torch.sigmoid(net.decoder(maps, [masks[f"m{i}"] for i in range(5)]))[:, 0].numpy())
            risks.append(float(net.heads(maps[-1], masks["h_detect"], masks["h_survive"])[2]))
    return np.mean(passes, axis=0), np.std(passes, axis=0), risks


def test_statistics_agree_with_naive_torch_passes(pair: tuple[MultitaskNet, Model]) -> None:
    """Encoder once and Welford give the mean and SD of 30 whole torch passes with equal masks."""
    net, model = pair
    got = infer(everywhere(model), prepared(), "study", PASSES)
    mean, sd, risks = naive(net, "study")
    assert np.abs(got.probability - mean).max() < 1e-5
    assert np.abs(got.sd - sd).max() < 1e-4
    assert got.risks == pytest.approx(risks, abs=1e-4)
    assert sd.max() > 1e-3


def test_dropout_gives_variance_and_no_dropout_gives_none(pair: tuple[MultitaskNet, Model]) -> None:
    """Variance is above zero with dropout, and zero at rate 0: it comes from the masks alone."""
    _, model = pair
    dropped = infer(everywhere(model), prepared(), "study", 5)
    plain = infer(everywhere(model, rate=0.0), prepared(), "study", 5)
    assert dropped.sd.max() > 1e-3
    assert len(set(dropped.tumour_logits)) > 1
    assert plain.sd.max() < 1e-6
    assert plain.mutual_information.max() < 1e-5
    assert len(set(plain.risks)) == 1


def test_undefined_outputs_are_no_answer(pair: tuple[MultitaskNet, Model]) -> None:
    """Whatever they come from: NaN compares as below every threshold, and would read as NOT LIKELY."""
    _, model = pair
    study = prepared()
    study.array[0, 3, 20, 20] = np.nan
    with pytest.raises(UnprocessableError, match="not finite") as caught:
        infer(model, study, "study", 0)
    assert caught.value.reason == Reason.MODEL


def equal(a: Inference, b: Inference) -> bool:
    return all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for name in ("probability", "sd", "entropy", "tumour_logits", "risks")
    )


def test_the_same_study_gives_the_same_bits(pair: tuple[MultitaskNet, Model]) -> None:
    """Equal keys agree to the bit, also on other numbers of threads; other keys do not."""
    _, model = pair
    first = infer(everywhere(model), prepared(), "study", 5)
    two_threads = Model(everywhere(model).bundle, threads=2)
    assert equal(first, infer(everywhere(model), prepared(), "study", 5))
    assert equal(first, infer(two_threads, prepared(), "study", 5))
    assert not equal(first, infer(everywhere(model), prepared(), "other", 5))


def test_where_nothing_is_conceivable_no_passes_run(pair: tuple[MultitaskNet, Model]) -> None:
    """Above an explore threshold of 1 the answer is the first pass, without voxel variance."""
    _, model = pair
    calibration = replace(model.manifest.calibration, explore_threshold=1.1)
    quiet = Model(replace(model.bundle, manifest=replace(model.manifest, calibration=calibration)), threads=1)
    assert infer(quiet, prepared(), "study", 5).sd.max() == 0


def test_boxes_cover_the_region_with_a_margin() -> None:
    """Every explored voxel lies in a box, a cell from its edge where the plane allows; boxes do not overlap."""
    region = np.zeros((8, 160, 160), dtype=bool)
    region[2:4, 40:60, 40:60] = True
    region[5, 120:130, 120:130] = True
    found = boxes(region)
    covered = np.zeros(region.shape, dtype=int)
    for box in found:
        covered[box.region] += 1
        assert all((b - a) % CELL == 0 for a, b in (box.rows, box.columns))
    assert covered[region].min() == 1
    assert covered.max() == 1
    assert covered[2, 40 - CELL, 40] == 1


def test_int8_stays_close_to_fp32(tmp_path: Path) -> None:
    """The quantised decoder's probabilities stay near those of FP32."""
    _, graphs = exported(tmp_path)
    fp32 = fp32_model(graphs)
    folder = graphs.shipped["encoder"].parent
    int8 = Model(replace(fp32.bundle, path=folder), threads=1)
    a = infer(everywhere(fp32), prepared(), "study", 4).probability
    b = infer(everywhere(int8), prepared(), "study", 4).probability
    assert np.abs(a - b).mean() < 0.05
