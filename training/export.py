"""Three ONNX graphs from a trained network: encoder and decoder INT8, heads FP32 (docs/bundle.md).

Static QDQ, U8 activations, S8 weights per channel, MinMax; the last convolution stays FP32. The checker runs after each
step, because the tools only log their failures.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn

from training.network import Decoder, MultitaskNet, contiguous

OPSET = 17
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
    fp32 = _fp32(net, torch.from_numpy(calibration[0][:2]), folder / "fp32")
    shipped = {"heads": folder / "int8" / "heads.onnx"}
    shipped["heads"].write_bytes(fp32["heads"].read_bytes())
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
    )
    folded.unlink()
    onnx.checker.check_model(onnx.load(target))
    return target
