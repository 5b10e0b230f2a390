"""A bundle's graphs, three of each member, loaded into ONNX Runtime."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from daemon.domain.model_bundle import Dropout, Graphs, Manifest, folders
from daemon.domain.provider import Provider
from daemon.errors import FatalError
from daemon.inference.bundle import GOLDEN, Bundle
from daemon.inference.engine import Engine
from daemon.inference.novelty import Bank
from daemon.inference.provider import ProviderError

# How a tensor says that its values are in another file (`external_data`, key "location"), as protobuf writes it.
_ELSEWHERE = b"\x0a\x08location\x12"
# What it says where an operator, or its own arena, asks for memory in vain.
_NO_MEMORY = ("std::bad_alloc", "Failed to allocate memory")

Array = NDArray[np.float32]
Feed = Mapping[str, Array]


def _whole(bundle: Bundle, name: str) -> bytes:
    """Return a graph's bytes: what lies in other files was never compared with a digest."""
    content = bundle.content(name)
    if _ELSEWHERE in content:
        raise FatalError(f"bundle {bundle.ref.name}: {name} keeps values outside its file; export it as one file")
    return content


@contextmanager
def _memory_told() -> Iterator[None]:
    """Raise a MemoryError where ONNX Runtime says that memory ran out, which it does by two classes of its own."""
    try:
        yield
    except Exception as error:
        if any(words in str(error) for words in _NO_MEMORY):
            raise MemoryError("ONNX Runtime has no memory left") from error
        raise


class Member:
    """Runs one network's encoder, decoder and heads; on the CPU the same input gives the same bits with any threads."""

    def __init__(self, bundle: Bundle, graphs: Graphs, engine: Engine, pace: Callable[[], None]) -> None:
        """Load the graphs; `pace` is called before each run of one, and may raise to break off.

        Raises:
            ProviderError: the engine's provider runs none of a graph.
            FatalError: ONNX Runtime refuses a graph, for an operator that it does not know among others, or a graph
                keeps values outside its file.
        """
        self._pace = pace
        contents = [_whole(bundle, name) for name in graphs.files]
        try:
            with _memory_told():
                self._encoder, self._decoder = (engine.open(content, arena=True) for content in contents[:2])
                # These read a whole study at once: an arena would keep what that took for as long as the worker lives.
                self._heads = engine.open(contents[2], arena=False)
        except (MemoryError, ProviderError):
            raise
        except Exception as error:
            # ONNX Runtime raises a class of its own per fault, all under Exception.
            raise FatalError(f"bundle {bundle.ref.name}: a graph cannot be loaded: {error}") from error

    def encode(self, stack: Array) -> list[Array]:
        """Return f0..f4 of an input stack (n, channels x neighbours, H, W)."""
        self._pace()
        with _memory_told():
            maps: list[Array] = self._encoder.run(None, {"image": stack})
        return maps

    def decode(self, maps: Sequence[Array], masks: Feed) -> Array:
        """Return logits (n, H, W) of maps f0..f4 under the decoder masks."""
        feed = {f"f{i}": m for i, m in enumerate(maps)}
        self._pace()
        with _memory_told():
            logits: Array = self._decoder.run(None, {**feed, **masks})[0]
        return logits[:, 0]

    def judge(self, deepest: Array, masks: Feed) -> tuple[Array, float, float]:
        """Return activation map logits (n, h, w), tumour logit and log hazard of all slices' f4."""
        self._pace()
        with _memory_told():
            cam, tumour, risk = self._heads.run(None, {"f4": deepest, **masks})
        return cam[:, 0], float(tumour[0]), float(risk[0])


class Model:
    """A bundle's networks, one or an ensemble's `members`, and what it knows of its training."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        threads: int = 2,
        provider: Provider = Provider.CPU,
        pace: Callable[[], None] = lambda: None,
    ) -> None:
        """Load all graphs onto `provider`; `pace` is called before each run of one, and may raise to break off.

        Raises:
            ProviderError: the provider is not installed, cannot start or runs none of a graph.
            FatalError: a graph or the novelty bank cannot be loaded.
        """
        self.bundle = bundle
        self.engine = Engine(provider, threads)
        self.members = tuple(Member(bundle, graphs, self.engine, pace) for graphs in bundle.manifest.members)
        bank = bundle.manifest.novelty
        self._bank = Bank.parse(bundle.content(bank), bank) if bank else None

    @property
    def manifest(self) -> Manifest:
        """Return the bundle's manifest."""
        return self.bundle.manifest

    def novelty(self, embedding: Array) -> float:
        """Return how far a study (d,) is from those the model was trained on; 0 where the bundle has no bank."""
        return self._bank.distance(embedding) if self._bank else 0.0

    def novelty_moved(self, change: Array) -> float:
        """Return by how much `novelty` can differ at most where the embedding does by `change` (d,)."""
        return self._bank.moved(change) if self._bank else 0.0


def goldens(bundle: Bundle) -> dict[str, Array]:
    """Return the bundle's golden input and, of every member, the outputs that its maker saw.

    Raises:
        FatalError: they are missing.
    """
    path = bundle.path / GOLDEN
    if not path.is_file():
        raise FatalError(f"bundle {bundle.ref.name}: {GOLDEN} is missing; install the bundle anew")
    with np.load(path) as golden:
        return {name: golden[name] for name in golden.files}


def verify(model: Model) -> tuple[str, ...]:
    """Run the bundle's golden input and return the names of outputs that differ by a single bit.

    An empty answer means that this machine gives what the bundle's maker saw.
    """
    stored = goldens(model.bundle)
    got = replay(model, stored)
    return tuple(sorted(name for name, value in got.items() if not np.array_equal(value, stored.get(name, ()))))


def replay(model: Model, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return every output of every member for golden inputs: `image` and one mask per mask name.

    An ensemble's further members have theirs as `member-2/logits`, as the bundle has their files.
    """
    return {
        f"{folder}{name}": value
        for folder, member in zip(folders(len(model.members)), model.members, strict=True)
        for name, value in _outputs(member, model.manifest.dropout, inputs).items()
    }


def _outputs(member: Member, dropout: Dropout, inputs: Mapping[str, Array]) -> dict[str, Array]:
    maps = member.encode(inputs["image"])
    logits = member.decode(maps, {name: inputs[name] for name in dropout.decoder_masks})
    cam, tumour, risk = member.judge(maps[-1], {name: inputs[name] for name in dropout.head_masks})
    outputs = {f"f{i}": m for i, m in enumerate(maps)}
    numbers = {name: np.array([v], dtype=np.float32) for name, v in (("tumour_logit", tumour), ("risk", risk))}
    return {**outputs, "logits": logits, "cam": cam, **numbers}
