"""A bundle whose weights are set by hand: bright voxels are tumour. For tests that want sensible masks at once."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx
import tomli_w
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from daemon.domain.model_bundle import BundleRef, Manifest
from daemon.inference.bundle import GOLDEN, MANIFEST, SUMS, Bundle, needed
from daemon.inference.mc_dropout import draw
from daemon.inference.reader import BundleReader
from daemon.inference.session import Model, replay
from daemon.inference.signature import SIGNATURE
from tests.manifests import BRAIN, PETCT
from training.export import OPSET

STEEPNESS = 40.0
# Above this a voxel of the first channel is tumour: a z-score, or a share of the window (SUV 4.2 of 12).
BRIGHT = {BRAIN.name: 2.5, PETCT.name: 0.35}
# By how much of that each further member wants more.
APART = 0.05
Node: TypeAlias = onnx.NodeProto
Constant: TypeAlias = onnx.TensorProto


def tiny_reader(folder: Path) -> BundleReader:
    """Return the tiny bundle for head MR, made in `folder`, as it is read by eight passes."""
    make_tiny_bundle(folder / BRAIN.name / "0.0.1")
    return BundleReader(needed(folder), threads=1, passes=8)


def make_tiny_bundle(path: Path, manifest: Manifest = BRAIN) -> Path:
    """Write a whole bundle for `manifest` into folder `path` and return it.

    Every feature channel carries the centre slice's first channel, so channel dropout scales what the decoder sees.
    Each further member of an ensemble wants voxels that are a little brighter.
    """
    (path / GOLDEN.parent).mkdir(parents=True)
    widths = list(manifest.dropout.decoder_masks.values())
    for number, graphs in enumerate(manifest.members):
        bright = BRIGHT[manifest.name] * (1 + APART * number)
        for name in graphs.files:
            (path / name).parent.mkdir(exist_ok=True)
        onnx.save(_encoder(manifest, widths), path / graphs.encoder)
        onnx.save(_decoder(widths, bright), path / graphs.decoder)
        onnx.save(_heads(manifest, bright), path / graphs.heads)
    (path / MANIFEST).write_text(tomli_w.dumps(_plain(manifest)), encoding="utf-8")
    _golden(path, manifest)
    sign(path)
    return path


def sign(path: Path) -> None:
    """Write SHA256SUMS over what is in the folder."""
    files = sorted(p for p in path.rglob("*") if p.is_file() and p.name not in {SUMS, SIGNATURE})
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(path).as_posix()}\n" for p in files]
    (path / SUMS).write_text("".join(lines), encoding="utf-8")


def _plain(manifest: Manifest) -> dict[str, object]:
    document = asdict(manifest)
    calibration = manifest.calibration
    years = {str(year): alive for year, alive in calibration.baseline_survival.items()}
    document["calibration"] = asdict(replace(calibration, baseline_survival={})) | {"baseline_survival": years}
    for channel in document["recipe"]["channels"]:
        channel["normalisation"] = str(channel["normalisation"])
    return document


def _golden(path: Path, manifest: Manifest) -> None:
    model = Model(Bundle(path=path, manifest=manifest, ref=BundleRef(name="t", version="0", digest="0")), threads=1)
    channels = manifest.recipe.neighbours * len(manifest.recipe.channels)
    rng = np.random.Generator(np.random.Philox(1))
    inputs = {"image": rng.random((3, channels, 32, 32), dtype=np.float32), **draw(manifest.dropout, rng)}
    values: dict[str, NDArray[np.float32]] = {**inputs, **replay(model, inputs)}
    np.savez_compressed(path / GOLDEN, **values)  # type: ignore[arg-type]  # numpy types its flags into the same call


def _constant(name: str, values: object) -> Constant:
    return numpy_helper.from_array(np.asarray(values, dtype=np.float32), name)


def _value(name: str, shape: Sequence[str | int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _model(nodes: list[Node], ends: tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]], *constants: Constant,
           ) -> onnx.ModelProto:  # fmt: skip
    graph = helper.make_graph(nodes, "tiny", ends[0], ends[1], list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def _encoder(manifest: Manifest, widths: Sequence[int]) -> onnx.ModelProto:
    channels = manifest.recipe.neighbours * len(manifest.recipe.channels)
    centre = np.zeros((1, channels, 1, 1))
    centre[0, manifest.recipe.neighbours // 2] = 1
    nodes = [helper.make_node("Conv", ["image", "centre"], ["p0"])]
    constants = [_constant("centre", centre)]
    for level, width in enumerate(widths):
        if level:
            pool = helper.make_node("MaxPool", [f"p{level - 1}"], [f"p{level}"], kernel_shape=[2, 2], strides=[2, 2])
            nodes.append(pool)
        nodes.append(helper.make_node("Conv", [f"p{level}", f"w{level}"], [f"f{level}"]))
        constants.append(_constant(f"w{level}", np.ones((width, 1, 1, 1))))
    outputs = [_value(f"f{i}", ["n", width, f"h{i}", f"w{i}"]) for i, width in enumerate(widths)]
    return _model(nodes, ([_value("image", ["n", channels, "h", "w"])], outputs), *constants)


def _decoder(widths: Sequence[int], bright: float) -> onnx.ModelProto:
    maps = [_value(f"f{i}", ["n", width, f"h{i}", f"w{i}"]) for i, width in enumerate(widths)]
    masks = [_value(f"m{i}", [1, width, 1, 1]) for i, width in enumerate(widths)]
    nodes = [
        helper.make_node("Mul", ["f0", "m0"], ["kept"]),
        helper.make_node("Conv", ["kept", "mean", "shift"], ["logits"]),
    ]
    outputs = [_value("logits", ["n", 1, "h", "w"])]
    return _model(nodes, ([*maps, *masks], outputs), *_brightness(widths[0], bright))


def _heads(manifest: Manifest, bright: float) -> onnx.ModelProto:
    width, hidden = (manifest.dropout.head_masks[name] for name in ("h_detect", "h_survive"))
    nodes = [
        helper.make_node("Mul", ["f4", "h_detect"], ["kept"]),
        helper.make_node("Conv", ["kept", "mean", "shift"], ["cam"]),
        helper.make_node("ReduceMax", ["cam"], ["highest"], keepdims=0),
        helper.make_node("Reshape", ["highest", "one"], ["tumour_logit"]),
        helper.make_node("ReduceMean", ["h_survive"], ["kept_share"], keepdims=0),
        helper.make_node("Mul", ["tumour_logit", "kept_share"], ["risk"]),
    ]
    inputs = [_value("f4", ["n", width, "h", "w"]), _value("h_detect", [1, width, 1, 1])]
    inputs.append(_value("h_survive", [1, hidden]))
    outputs = [_value("cam", ["n", 1, "h", "w"]), _value("tumour_logit", [1]), _value("risk", [1])]
    one = numpy_helper.from_array(np.array([1], dtype=np.int64), "one")
    return _model(nodes, (inputs, outputs), *_brightness(width, bright), one)


def _brightness(width: int, bright: float) -> tuple[Constant, Constant]:
    """Return a 1x1 convolution's weights and bias: steepness x (mean channel - bright)."""
    mean = np.full((1, width, 1, 1), STEEPNESS / width)
    return _constant("mean", mean), _constant("shift", [-STEEPNESS * bright])
