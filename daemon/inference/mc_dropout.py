"""MC-dropout (Gal and Ghahramani 2016): encoder once, decoder often but only where tumour is conceivable.

Masks are drawn from Philox keyed by what is read and by whom, so that the same study gives the same answer to the bit.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from daemon.domain.model_bundle import Dropout
from daemon.imaging.steps import Prepared, neighbour_stack
from daemon.inference.session import Model

Array = NDArray[np.float32]
# Slices per run: fixed, since the batch size may choose other kernels and so other last bits.
CHUNK = 8
# The deepest map is 1/16; boxes are whole cells of it, grown by one for the decoder's view.
CELL = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Inference:
    """What the model says, on the model grid (slices, rows, columns).

    `probability` mean tumour probability, `sd` over passes, `entropy` predictive entropy in nats,
    `mutual_information` the part of it that is the model's own doubt. `cam` activation map logits at 1/16.
    `tumour_logits` and `risks` hold one number per pass; `seed` is what the masks came from.
    """

    probability: Array
    sd: Array
    entropy: Array
    mutual_information: Array
    cam: Array
    tumour_logits: tuple[float, ...]
    risks: tuple[float, ...]
    seed: int


@dataclass(frozen=True, kw_only=True)
class Box:
    """Half-open ranges of slices, rows and columns; rows and columns are whole cells."""

    slices: tuple[int, int]
    rows: tuple[int, int]
    columns: tuple[int, int]

    @property
    def region(self) -> tuple[slice, slice, slice]:
        """Return the box as an index."""
        return slice(*self.slices), slice(*self.rows), slice(*self.columns)


def seed_of(key: str) -> int:
    """Return the 63-bit seed that `key` (study UID and bundle digest) always gives."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) >> 1


def draw(dropout: Dropout, rng: np.random.Generator) -> dict[str, Array]:
    """Return one pass's channel masks: 0, or 1/(1-rate); mask names in sorted order."""
    shapes = {
        **{name: (1, width, 1, 1) for name, width in dropout.decoder_masks.items()},
        **{name: (1, width, 1, 1) for name, width in dropout.head_masks.items()},
        "h_survive": (1, dropout.head_masks["h_survive"]),
    }
    scale = 1 / (1 - dropout.rate)
    return {
        name: ((rng.random(shape) >= dropout.rate) * scale).astype(np.float32) for name, shape in sorted(shapes.items())
    }


def infer(model: Model, prepared: Prepared, key: str, passes: int | None = None) -> Inference:
    """Read a prepared study.

    Args:
        model: the loaded bundle.
        prepared: its model input.
        key: what the masks are drawn from.
        passes: number of stochastic passes; the bundle's own where None.
    """
    dropout = model.manifest.dropout
    seed = seed_of(key)
    rng = np.random.Generator(np.random.Philox(seed))
    masks = [draw(dropout, rng) for _ in range(passes or dropout.passes)]
    first = _first_pass(model, prepared)
    cam, tumours, risks = _judge(model, first.deepest, masks)
    stack = _Moments.of(first.probability)
    for box in boxes(first.probability >= model.manifest.calibration.explore_threshold):
        _sample(model, first, box, (masks, stack))
    mean = first.probability.copy()
    sd, mutual = np.zeros_like(mean), np.zeros_like(mean)
    if stack.passes:
        seen = stack.seen
        mean[seen] = stack.mean[seen]
        sd[seen] = np.sqrt(stack.squares[seen] / len(masks))
        mutual[seen] = np.maximum(binary_entropy(mean[seen]) - stack.doubt[seen] / len(masks), 0)
    return Inference(
        probability=mean,
        sd=sd,
        entropy=binary_entropy(mean),
        mutual_information=mutual,
        cam=cam,
        tumour_logits=tumours,
        risks=risks,
        seed=seed,
    )


def binary_entropy(probability: Array) -> Array:
    """Return -p ln p - (1-p) ln(1-p) in nats."""
    p = np.clip(probability, 1e-7, 1 - 1e-7)
    return np.asarray(-p * np.log(p) - (1 - p) * np.log1p(-p), dtype=np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class _First:
    """The deterministic pass; features only of slices where something may be."""

    probability: Array
    deepest: Array
    features: Mapping[int, list[Array]]


@dataclass(kw_only=True, eq=False)
class _Moments:
    """Welford's running mean and squares, summed entropy, and where they were taken."""

    mean: Array
    squares: Array
    doubt: Array
    seen: NDArray[np.bool_]
    passes: int = 0

    @classmethod
    def of(cls, like: Array) -> "_Moments":
        return cls(
            mean=np.zeros_like(like),
            squares=np.zeros_like(like),
            doubt=np.zeros_like(like),
            seen=np.zeros(like.shape, dtype=bool),
        )

    def add(self, region: tuple[slice, slice, slice], values: Array, count: int) -> None:
        delta = values - self.mean[region]
        self.mean[region] += delta / count
        self.squares[region] += delta * (values - self.mean[region])
        self.doubt[region] += binary_entropy(values)
        self.passes = max(self.passes, count)


def _first_pass(model: Model, prepared: Prepared) -> _First:
    ones = {n: np.ones((1, w, 1, 1), np.float32) for n, w in model.manifest.dropout.decoder_masks.items()}
    threshold = model.manifest.calibration.explore_threshold
    count = prepared.array.shape[1]
    probability = np.empty(prepared.array.shape[1:], dtype=np.float32)
    deepest: list[Array] = []
    features: dict[int, list[Array]] = {}
    for start, stop in _chunks(0, count):
        indices = np.arange(start, stop)
        maps = model.encode(neighbour_stack(prepared.array, model.manifest.recipe, indices))
        probability[start:stop] = _sigmoid(model.decode(maps, ones))
        deepest.append(maps[-1])
        for at in np.flatnonzero((probability[start:stop] >= threshold).any(axis=(1, 2))):
            features[start + int(at)] = [m[at].copy() for m in maps]
    return _First(probability=probability, deepest=np.concatenate(deepest), features=features)


def _judge(
    model: Model, deepest: Array, masks: list[dict[str, Array]]
) -> tuple[Array, tuple[float, ...], tuple[float, ...]]:
    names = model.manifest.dropout.head_masks
    ones = {n: np.ones_like(masks[0][n]) for n in names}
    cam, _, _ = model.judge(deepest, ones)
    pairs = [model.judge(deepest, {n: m[n] for n in names})[1:] for m in masks]
    return cam, tuple(p[0] for p in pairs), tuple(p[1] for p in pairs)


def boxes(region: NDArray[np.bool_]) -> tuple[Box, ...]:
    """Return disjoint boxes that cover `region` (slices, rows, columns) with a margin of at least one cell.

    Cells in the plane, joined over all slices: parts that touch become one box.
    """
    rows, columns = region.shape[1] // CELL, region.shape[2] // CELL
    cells: NDArray[np.bool_] = np.asarray(
        region.reshape(region.shape[0], rows, CELL, columns, CELL).any(axis=(2, 4)), dtype=bool
    )
    flat = sitk.GetImageFromArray(cells.any(axis=0).astype(np.uint8))
    grown = sitk.ConnectedComponent(sitk.BinaryDilate(flat, [1, 1], sitk.sitkBox), True)
    found = [_spans(sitk.GetArrayFromImage(grown) == n) for n in range(1, int(sitk.GetArrayFromImage(grown).max()) + 1)]
    return tuple(_box(cells, spans) for spans in _merged(found))


Spans = tuple[int, int, int, int]


def _spans(mask: NDArray[np.bool_]) -> Spans:
    rows, columns = np.nonzero(mask)
    return int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1


def _merged(spans: list[Spans]) -> list[Spans]:
    """Join overlapping rectangles until none overlap."""
    for i, a in enumerate(spans):
        for j in range(i + 1, len(spans)):
            b = spans[j]
            if a[0] < b[1] and b[0] < a[1] and a[2] < b[3] and b[2] < a[3]:
                joined = (min(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), max(a[3], b[3]))
                return _merged([joined, *spans[:i], *spans[i + 1 : j], *spans[j + 1 :]])
    return spans


def _box(cells: NDArray[np.bool_], spans: Spans) -> Box:
    top, bottom, left, right = spans
    slices = np.flatnonzero(cells[:, top:bottom, left:right].any(axis=(1, 2)))
    return Box(
        slices=(int(slices[0]), int(slices[-1]) + 1),
        rows=(top * CELL, bottom * CELL),
        columns=(left * CELL, right * CELL),
    )


def _sample(model: Model, first: _First, box: Box, into: tuple[list[dict[str, Array]], _Moments]) -> None:
    masks, moments = into
    present = [z for z in range(*box.slices) if z in first.features]
    for start, stop in _chunks(0, len(present)):
        chosen = present[start:stop]
        maps = [_crop([first.features[z][level] for z in chosen], box, level) for level in range(5)]
        for count, mask in enumerate(masks, start=1):
            named = {name: mask[name] for name in model.manifest.dropout.decoder_masks}
            values = _sigmoid(model.decode(maps, named))
            for at, z in enumerate(chosen):
                moments.add((slice(z, z + 1), *box.region[1:]), values[at : at + 1], count)
        for z in chosen:
            moments.seen[(slice(z, z + 1), *box.region[1:])] = True


def _crop(maps: list[Array], box: Box, level: int) -> Array:
    scale = 2**level
    rows, columns = (slice(a // scale, b // scale) for a, b in (box.rows, box.columns))
    return np.ascontiguousarray(np.stack([m[:, rows, columns] for m in maps]))


def _chunks(start: int, stop: int) -> Iterator[tuple[int, int]]:
    for at in range(start, stop, CHUNK):
        yield at, min(at + CHUNK, stop)


def _sigmoid(logits: Array) -> Array:
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * logits), dtype=np.float32)
