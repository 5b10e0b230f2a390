"""A bundle's three graphs, loaded into ONNX Runtime."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from daemon.domain.model_bundle import Manifest
from daemon.errors import FatalError
from daemon.inference.bundle import GOLDEN, Bundle
from daemon.inference.novelty import Bank

# How a tensor says that its values are in another file (`external_data`, key "location"), as protobuf writes it.
_ELSEWHERE = b"\x0a\x08location\x12"

Array = NDArray[np.float32]
Feed = Mapping[str, Array]


def _whole(bundle: Bundle, name: str) -> bytes:
    """Return a graph's bytes: what lies in other files was never compared with a digest."""
    content = bundle.content(name)
    if _ELSEWHERE in content:
        raise FatalError(f"bundle {bundle.ref.name}: {name} keeps values outside its file; export it as one file")
    return content


class Model:
    """Runs encoder, decoder and heads; the same input gives the same bits on any number of threads."""

    def __init__(self, bundle: Bundle, *, threads: int = 2) -> None:
        """Load the graphs.

        Raises:
            FatalError: ONNX Runtime refuses a graph, for an operator that it does not know among others, or a graph
                keeps values outside its file.
        """
        self.bundle = bundle
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        graphs = bundle.manifest.graphs
        contents = [_whole(bundle, name) for name in (graphs.encoder, graphs.decoder, graphs.heads)]
        try:
            self._encoder, self._decoder, self._heads = (
                onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
                for content in contents
            )
        except Exception as error:
            # ONNX Runtime raises a class of its own per fault, all under Exception.
            raise FatalError(f"bundle {bundle.ref.name}: a graph cannot be loaded: {error}") from error
        bank = bundle.manifest.novelty
        self._bank = Bank.parse(bundle.content(bank), bank) if bank else None

    @property
    def manifest(self) -> Manifest:
        """Return the bundle's manifest."""
        return self.bundle.manifest

    def encode(self, stack: Array) -> list[Array]:
        """Return f0..f4 of an input stack (n, channels x neighbours, H, W)."""
        maps: list[Array] = self._encoder.run(None, {"image": stack})
        return maps

    def decode(self, maps: Sequence[Array], masks: Feed) -> Array:
        """Return logits (n, H, W) of maps f0..f4 under the decoder masks."""
        feed = {f"f{i}": m for i, m in enumerate(maps)}
        logits: Array = self._decoder.run(None, {**feed, **masks})[0]
        return logits[:, 0]

    def judge(self, deepest: Array, masks: Feed) -> tuple[Array, float, float]:
        """Return activation map logits (n, h, w), tumour logit and log hazard of all slices' f4."""
        cam, tumour, risk = self._heads.run(None, {"f4": deepest, **masks})
        return cam[:, 0], float(tumour[0]), float(risk[0])

    def novelty(self, embedding: Array) -> float:
        """Return how far a study (d,) is from those the model was trained on; 0 where the bundle has no bank."""
        return self._bank.distance(embedding) if self._bank else 0.0


def verify(model: Model) -> tuple[str, ...]:
    """Run the bundle's golden input and return the names of outputs that differ by a single bit.

    An empty answer means that this machine gives what the bundle's maker saw.
    """
    path = model.bundle.path / GOLDEN
    if not path.is_file():
        raise FatalError(f"bundle {model.bundle.ref.name}: {GOLDEN} is missing; install the bundle anew")
    with np.load(path) as golden:
        stored = {name: golden[name] for name in golden.files}
    got = replay(model, stored)
    return tuple(sorted(name for name, value in got.items() if not np.array_equal(value, stored[name])))


def replay(model: Model, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return every output for golden inputs: `image` and one mask per mask name."""
    dropout = model.manifest.dropout
    maps = model.encode(inputs["image"])
    logits = model.decode(maps, {name: inputs[name] for name in dropout.decoder_masks})
    cam, tumour, risk = model.judge(maps[-1], {name: inputs[name] for name in dropout.head_masks})
    outputs = {f"f{i}": m for i, m in enumerate(maps)}
    numbers = {name: np.array([v], dtype=np.float32) for name, v in (("tumour_logit", tumour), ("risk", risk))}
    return {**outputs, "logits": logits, "cam": cam, **numbers}
