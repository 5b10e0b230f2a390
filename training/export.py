"""Three ONNX graphs from a trained network: encoder and decoder INT8, heads FP32 (docs/bundle.md).

Static QDQ, U8 activations, S8 weights per channel, MinMax; the last convolution stays FP32. The checker runs after each
step, because the tools only log their failures.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn

from daemon.domain.model_bundle import Recipe
from daemon.imaging.steps import neighbour_stack
from daemon.inference.mc_dropout import CELL
from training.data.sample import Sample
from training.network import Decoder, MultitaskNet, contiguous
from training.settings import NetworkSettings

OPSET = 17
EXAMPLE = (80, 112)
CALIBRATION_STUDIES = 24
GRAPHS = ("encoder", "decoder", "heads")
Feed = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class Exported:
    """Where the graphs are: FP32 for comparison, and the ones to ship."""

    fp32: Mapping[str, Path]
    shipped: Mapping[str, Path]


class _DecoderGraph(nn.Module):
    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, *inputs: Tensor) -> Tensor:
        half = len(inputs) // 2
        logits: Tensor = self.decoder(inputs[:half], inputs[half:])
        return logits


class _Feeds(CalibrationDataReader):
    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds: Iterator[Feed] = iter(feeds)

    def get_next(self) -> Feed | None:
        return next(self._feeds, None)


def calibration_stacks(samples: Sequence[Sample], recipe: Recipe, seed: int) -> list[NDArray[np.float32]]:
    """Return input stacks that show activations their range: two tumour slices and two others of up to 24 samples.

    Of more than 24 the seed draws, of each source as many as of any other while they last.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    stacks = []
    for sample in _drawn(samples, rng):
        marked = np.zeros(0) if sample.mask is None else np.flatnonzero(sample.mask.any(axis=(1, 2)))
        count = sample.image.shape[1]
        chosen = rng.choice(marked, 2) if marked.size else rng.integers(0, count, 2)
        others = rng.integers(0, count, 2)
        rows, columns = (n // recipe.multiple * recipe.multiple for n in sample.image.shape[2:])
        image = sample.image[:, :, :rows, :columns].astype(np.float32)
        stacks.append(neighbour_stack(image, recipe, np.concatenate((chosen, others))))
    return stacks


def _drawn(samples: Sequence[Sample], rng: np.random.Generator) -> list[Sample]:
    if len(samples) <= CALIBRATION_STUDIES:
        return list(samples)
    turns: list[tuple[int, int]] = []
    seen: Counter[str] = Counter()
    for index in rng.permutation(len(samples)):
        source = samples[index].source
        turns.append((seen[source], int(index)))
        seen[source] += 1
    first = sorted(turns, key=lambda turn: turn[0])[:CALIBRATION_STUDIES]
    return [samples[index] for index in sorted(index for _, index in first)]


def demand_slices(network: NetworkSettings) -> None:
    """Raise ValueError for a network that no bundle can hold: it reads volumes, or has not the daemon's depth."""
    if network.spatial_dims == 3:
        raise ValueError(
            "a 3-D network is neither exported nor pruned: in ONNX Runtime it costs ten times a 2.5-D one, and its "
            "INT8 is slower than its FP32; train with network.spatial_dims = 2 and recipe.neighbours = 5, or study the "
            "3-D one by `train` and `kfold` alone"
        )
    if network.multiple != CELL:
        raise ValueError(
            f"a network of {len(network.widths)} levels is neither exported nor pruned: the daemon's cells have {CELL} "
            f"pixels; train with {CELL.bit_length()} network.widths, or study this one by `train` and `kfold` alone"
        )


def export(net: MultitaskNet, calibration: Sequence[NDArray[np.float32]], folder: Path) -> Exported:
    """Write the graphs of `net` below `folder`.

    Args:
        net: the trained network.
        calibration: input stacks (n, channels, H, W) that show the range of activations.
        folder: gets `fp32/` and `int8/`.
    """
    net.eval()
    contiguous(net)
    for name in ("fp32", "int8"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    # No two sizes of the example are equal, or the exporter could take them for one.
    fp32 = _fp32(net, torch.zeros(2, calibration[0].shape[1], *EXAMPLE), folder / "fp32")
    shipped = {"heads": _compact(onnx.load(fp32["heads"]), folder / "int8" / "heads.onnx")}
    for name, feeds in _calibration_feeds(net, calibration).items():
        shipped[name] = _quantise(fp32[name], feeds, folder / "int8" / f"{name}.onnx")
    return Exported(fp32=fp32, shipped=shipped)


@torch.no_grad()
def _fp32(net: MultitaskNet, image: Tensor, folder: Path) -> dict[str, Path]:
    maps = net.encoder(image)
    levels = range(len(maps))
    names = [f"f{i}" for i in levels]
    masks = net.decoder_masks(1, 0.0)
    paths = {name: folder / f"{name}.onnx" for name in ("encoder", "decoder", "heads")}
    area = {f"f{i}": {0: "n", 2: f"h{i}", 3: f"w{i}"} for i in levels}
    _export(net.encoder, (image,), paths["encoder"], (["image"], names), {"image": {0: "n", 2: "h", 3: "w"}, **area})
    _export(
        _DecoderGraph(net.decoder).eval(),
        (*maps, *masks),
        paths["decoder"],
        ([*names, *(f"m{i}" for i in levels)], ["logits"]),
        {**area, "logits": {0: "n", 2: "h", 3: "w"}},
    )
    widths = net.settings
    slices = torch.cat((maps[-1], maps[-1]))
    _export(
        net.heads,
        (slices, torch.ones(1, widths.widths[-1], 1, 1), torch.ones(1, widths.survival_width)),
        paths["heads"],
        (["f4", "h_detect", "h_survive"], ["cam", "tumour_logit", "risk"]),
        {"f4": {0: "n", 2: "h", 3: "w"}, "cam": {0: "n", 2: "h", 3: "w"}},
    )
    return paths


def _export(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    path: Path,
    names: tuple[list[str], list[str]],
    axes: dict[str, dict[int, str]],
) -> None:
    torch.onnx.export(
        module,
        inputs,
        str(path),
        input_names=names[0],
        output_names=names[1],
        dynamic_axes=axes,
        opset_version=OPSET,
        dynamo=False,
    )
    onnx.checker.check_model(onnx.load(path), full_check=True)


@torch.no_grad()
def _calibration_feeds(net: MultitaskNet, calibration: Sequence[NDArray[np.float32]]) -> dict[str, list[Feed]]:
    encoder: list[Feed] = []
    decoder: list[Feed] = []
    generator = torch.Generator().manual_seed(1)
    for stack in calibration:
        encoder.append({"image": stack})
        maps = net.encoder(torch.from_numpy(stack))
        masks = net.decoder_masks(1, net.settings.dropout, generator)
        feed = {f"f{i}": m.numpy() for i, m in enumerate(maps)}
        decoder.append({**feed, **{f"m{i}": m.numpy() for i, m in enumerate(masks)}})
    return {"encoder": encoder, "decoder": decoder}


def _quantise(source: Path, feeds: Sequence[Feed], target: Path) -> Path:
    folded = target.with_suffix(".folded.onnx")
    quant_pre_process(str(source), str(folded), skip_symbolic_shape=True)
    model = onnx.load(folded)
    onnx.checker.check_model(model)
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    quantize_static(
        str(folded),
        str(target),
        _Feeds(feeds),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        calibrate_method=CalibrationMethod.MinMax,
        nodes_to_exclude=convolutions[-1:] if source.stem == "decoder" else [],
        use_external_data_format=False,
        # The runtime rounds biases itself, to the same numbers.
        extra_options={"QuantizeBias": False},
    )
    folded.unlink()
    return _compact(onnx.load(target), target)


def _compact(model: onnx.ModelProto, target: Path) -> Path:
    """Write `model` without what it does not need to run: inner names, inferred shapes, zero points that are zero."""
    graph = model.graph
    kept = {value.name: value.name for value in (*graph.input, *graph.output)}
    constants = {constant.name: constant for constant in graph.initializer}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in constants and _is_zero(constants[node.input[2]]):
            del node.input[2]
    used = {name for node in graph.node for name in node.input}
    for name in constants.keys() - used:
        graph.initializer.remove(constants[name])
    for part in (*graph.initializer, *graph.node):
        part.doc_string = ""
    for constant in graph.initializer:
        constant.name = _short(constant.name, kept)
    for node in graph.node:
        node.input[:] = [_short(name, kept) for name in node.input]
        node.output[:] = [_short(name, kept) for name in node.output]
        node.name = ""
    del graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, target)
    return target


def _is_zero(constant: onnx.TensorProto) -> bool:
    return not numpy_helper.to_array(constant).any()


def _short(name: str, names: dict[str, str]) -> str:
    """Return a name of two or three letters in place of `name`; an empty one means an absent input."""
    return names.setdefault(name, f"_{len(names):x}") if name else name
