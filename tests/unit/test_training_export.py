"""Exported graphs against torch: values, sizes, masks, and what INT8 costs."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from tests.cohorts import tiny
from tests.small_networks import CHANNELS, small_network, small_settings, square_samples, squares
from training.export import Exported, calibration_stacks, export
from training.network import MultitaskNet
from training.steps import run as run_steps

Array = NDArray[np.float32]
# INT8 of an untrained network: largest error as a share of the logits' range, and correlation.
INT8_ERROR = 0.12
INT8_CORRELATION = 0.985


@pytest.fixture(scope="module")
def net() -> MultitaskNet:
    return small_network(small_settings(16))


@pytest.fixture(scope="module")
def exported(net: MultitaskNet, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    stacks = calibration_stacks(square_samples(4), small_settings().recipe, 1)
    return export(net, stacks, tmp_path_factory.mktemp("graphs"))


def run(path: Path, feed: Mapping[str, Array]) -> list[Array]:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, dict(feed))


def decoder_feed(maps: list[Array], masks: list[torch.Tensor]) -> dict[str, Array]:
    return {f"f{i}": m for i, m in enumerate(maps)} | {f"m{i}": m.numpy() for i, m in enumerate(masks)}


@pytest.mark.parametrize("shape", [(1, 32, 32), (2, 80, 112), (3, 16, 48), (4, 64, 64), (5, 48, 16)])
def test_fp32_graphs_equal_torch(net: MultitaskNet, exported: Exported, shape: tuple[int, int, int]) -> None:
    """To 1e-4, at any batch and any plane of whole cells, under random masks."""
    image, masks = squares(*shape), net.decoder_masks(1, 0.3, torch.Generator().manual_seed(2))
    with torch.no_grad():
        maps = net.encoder(torch.from_numpy(image))
        logits = net.decoder(maps, masks)
    got = run(exported.fp32["encoder"], {"image": image})
    for ours, torchs in zip(got, maps, strict=True):
        assert np.abs(ours - torchs.numpy()).max() <= 1e-4
    assert np.abs(run(exported.fp32["decoder"], decoder_feed(got, masks))[0] - logits.numpy()).max() <= 1e-4


@pytest.mark.parametrize("shape", [(3, 1, 1), (4, 4, 4), (6, 2, 5), (9, 5, 2)])
def test_heads_equal_torch(net: MultitaskNet, exported: Exported, shape: tuple[int, int, int]) -> None:
    """The same of the heads, and the shipped ones are theirs to the bit."""
    generator = torch.Generator().manual_seed(4)
    deepest = torch.rand(shape[0], 16, *shape[1:], generator=generator)
    detect, survive = torch.rand(1, 16, 1, 1, generator=generator), torch.rand(1, 16, generator=generator)
    with torch.no_grad():
        expected = net.heads(deepest, detect, survive)
    feed = {"f4": deepest.numpy(), "h_detect": detect.numpy(), "h_survive": survive.numpy()}
    got = run(exported.fp32["heads"], feed)
    for ours, torchs in zip(got, expected, strict=True):
        assert np.abs(ours - torchs.numpy()).max() <= 1e-4
    for ours, shipped in zip(got, run(exported.shipped["heads"], feed), strict=True):
        assert np.array_equal(ours, shipped)


def both(exported: Exported, image: Array, masks: list[torch.Tensor]) -> tuple[Array, Array]:
    """Return logits of the FP32 and of the INT8 graphs."""
    answers = []
    for graphs in (exported.fp32, exported.shipped):
        maps = run(graphs["encoder"], {"image": image})
        answers.append(run(graphs["decoder"], decoder_feed(maps, masks))[0])
    return answers[0], answers[1]


def test_int8_stays_near_fp32(net: MultitaskNet, exported: Exported) -> None:
    """Within the stated bound, at another size than any it was calibrated on."""
    fp32, int8 = both(exported, squares(3, 48, 80), net.decoder_masks(1, 0.0))
    assert not np.array_equal(fp32, int8)
    assert np.abs(fp32 - int8).max() <= INT8_ERROR * np.ptp(fp32)
    assert np.corrcoef(fp32.ravel(), int8.ravel())[0, 1] >= INT8_CORRELATION


def test_every_mask_matters(net: MultitaskNet, exported: Exported) -> None:
    """No optimiser removed a mask: each one changes the answer of both graphs, and does so as in torch."""
    image = squares(2, 32, 48)
    ones = net.decoder_masks(1, 0.0)
    whole = both(exported, image, ones)
    for level in range(len(ones)):
        masks = [m.clone() for m in ones]
        masks[level][:, ::2] = 0
        with torch.no_grad():
            expected = net(torch.from_numpy(image), masks).numpy()
        fp32, int8 = both(exported, image, masks)
        assert np.abs(fp32 - expected).max() <= 1e-4
        assert np.abs(fp32 - whole[0]).max() > 0.1
        assert np.abs(int8 - whole[1]).max() > 0.1
        assert np.abs(int8 - expected).max() <= 1.5 * INT8_ERROR * np.ptp(expected)


def test_what_stays_fp32(exported: Exported) -> None:
    """The decoder's last convolution and the heads have float weights; all other convolutions S8 ones."""
    kinds = {}
    for name in ("encoder", "decoder", "heads"):
        graph = onnx.load(exported.shipped[name]).graph
        whole = {i.name for i in graph.initializer if i.data_type == onnx.TensorProto.FLOAT}
        kinds[name] = [node.input[1] in whole for node in graph.node if node.op_type == "Conv"]
    assert kinds == {"encoder": [False] * 10, "decoder": [False] * 4 + [True], "heads": [True]}


def test_shipped_graphs_carry_no_ballast(exported: Exported) -> None:
    """Inner names are short and nothing is stored twice; one file holds all of a graph."""
    for path in exported.shipped.values():
        model = onnx.load(path, load_external_data=False)
        ends = {v.name for v in (*model.graph.input, *model.graph.output)}
        inner = {n for node in model.graph.node for n in (node.name, *node.output)} - ends
        assert max(len(name) for name in inner) <= 4
        assert not model.graph.value_info
        assert all(i.data_location != onnx.TensorProto.EXTERNAL for i in model.graph.initializer)
    assert sorted(p.name for p in path.parent.iterdir()) == ["decoder.onnx", "encoder.onnx", "heads.onnx"]


def test_calibration_stacks_show_tumours() -> None:
    """Half of the slices cross the tumour, the plane is cut to whole cells, equal seeds draw equal slices."""
    settings, samples = small_settings(), square_samples(2)
    first, second = (calibration_stacks(samples, settings.recipe, 5) for _ in range(2))
    assert [s.shape for s in first] == [(4, CHANNELS, 32, 32)] * 2
    assert (first[0][:2, CHANNELS // 2].max(axis=(1, 2)) > 2.5).all()
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_ranges_are_shown_by_every_source() -> None:
    """Of more than 24 samples the seed draws, not the name: as many of each source, all of one that has few."""
    recipe, (plain, *_) = small_settings().recipe, square_samples(1)
    sources = ["a"] * 40 + ["b"] * 40 + ["c"] * 4
    samples = [
        replace(plain, name=f"{i:03d}", source=source, image=np.full_like(plain.image, i))
        for i, source in enumerate(sources)
    ]
    first, second, other = ([int(s[0].max()) for s in calibration_stacks(samples, recipe, n)] for n in (5, 5, 6))
    assert Counter(sources[i] for i in first) == {"a": 10, "b": 10, "c": 4}
    assert first == second == sorted(first)
    assert first != other
    assert [int(s[0].max()) for s in calibration_stacks(samples[:24], recipe, 5)] == list(range(24))


@pytest.mark.parametrize("levels", [3, 4, 6])
def test_a_depth_that_the_daemon_does_not_read_is_refused_before_training(tmp_path: Path, levels: int) -> None:
    """Cells, boxes and the example of the export are those of five levels; nothing is made, and the mend is told."""
    few = {f"data__{name}": 1 for name in ("train", "tune", "test")}
    none = {f"data__{name}": 0 for name in ("shifted", "calibrate", "hard")}
    settings = tiny(network__widths=(4,) * levels, recipe__multiple=32, **few, **none)
    with pytest.raises(ValueError, match=rf"network of {levels} levels .* train with 5 network.widths"):
        run_steps(settings, tmp_path / "run", tmp_path / "models")
    assert not any(tmp_path.iterdir())
