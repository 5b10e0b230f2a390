"""MC-dropout (Gal and Ghahramani 2016): encoder once, decoder often but only where tumour is conceivable.

Masks are drawn from Philox keyed by what is read and by whom, so that the same study gives the same answer to the bit.
Of an ensemble (Lakshminarayanan et al. 2017) each member has its share of the passes, and all passes count alike.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from daemon.domain.model_bundle import Calibration, Dropout
from daemon.domain.reasons import Reason
from daemon.errors import UnprocessableError
from daemon.imaging.steps import Prepared, neighbour_stack
from daemon.inference.novelty import describe
from daemon.inference.session import Model

Array = NDArray[np.float32]
Masks = list[dict[str, Array]]
# Slices per run: fixed, since the batch size may choose other kernels and so other last bits; few, so that their boxes
# fit tightly and their features are small.
CHUNK = 8
# The deepest map is 1/16; boxes are whole cells of it, grown by one for the decoder's view.
CELL = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Inference:
    """What the model says, on the model grid (slices, rows, columns).

    `probability` mean tumour probability, `sd` over passes, both calibrated, `mutual_information` the part of the
    entropy that is the model's own doubt, as the passes gave it. `cam` activation map logits at 1/16. `tumour_logits`
    and `risks` hold one number per pass; `seed` is what the masks came from; `embedding` (d,) describes the study (see
    `novelty.describe`).
    """

    probability: Array
    sd: Array
    mutual_information: Array
    cam: Array
    tumour_logits: tuple[float, ...]
    risks: tuple[float, ...]
    seed: int
    embedding: Array

    @cached_property
    def entropy(self) -> Array:
        """Return the predictive entropy in nats, which few ask for."""
        return volume_entropy(self.probability)


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
    scale = 1 / (1 - dropout.rate)
    return {
        name: ((rng.random(shape) >= dropout.rate) * scale).astype(np.float32)
        for name, shape in sorted(_shapes(dropout).items())
    }


def _shapes(dropout: Dropout) -> dict[str, tuple[int, ...]]:
    return {
        **{name: (1, width, 1, 1) for name, width in dropout.decoder_masks.items()},
        **{name: (1, width, 1, 1) for name, width in dropout.head_masks.items()},
        "h_survive": (1, dropout.head_masks["h_survive"]),
    }


def infer(model: Model, prepared: Prepared, key: str, passes: int | None = None) -> Inference:
    """Read a prepared study.

    Args:
        model: the loaded bundle.
        prepared: its model input.
        key: what the masks are drawn from.
        passes: number of stochastic passes, of an ensemble's members together and up to a multiple of theirs; the
            bundle's own where None, 0 for one pass of each member without dropout.

    Raises:
        UnprocessableError: the study is thinner than the model's view, or a number came out infinite or undefined.
    """
    recipe, dropout = model.manifest.recipe, model.manifest.dropout
    count = prepared.array.shape[1]
    if count < recipe.neighbours:
        raise UnprocessableError(
            Reason.TOO_FEW_SLICES,
            f"the volume is {count} model slices of {recipe.spacing[0]:g} mm thick; at least {recipe.neighbours}",
        )
    seed = seed_of(key)
    rng = np.random.Generator(np.random.Philox(seed))
    # All members of an ensemble count alike: as many passes each, under masks of its own.
    each = -(-(dropout.passes if passes is None else passes) // len(model.members))
    masks = [[draw(dropout, rng) for _ in range(each)] for _ in model.members]
    voxels = _Voxels.of(prepared.array.shape[1:])
    parts = [_read(model, prepared, part, (masks, voxels)) for part in _chunks(count)]
    deepest = [np.concatenate(maps) for maps in zip(*parts, strict=True)]
    cam, tumours, risks = _judge(model, deepest, masks)
    if not (np.isfinite(voxels.mean).all() and np.isfinite([*tumours, *risks]).all()):
        raise UnprocessableError(
            Reason.MODEL, "the model's numbers are not finite; check the voxel values of the series"
        )
    probability, sd = calibrated(voxels.mean, voxels.sd, model.manifest.calibration)
    return Inference(
        probability=probability,
        sd=sd,
        mutual_information=voxels.mutual,
        cam=cam,
        tumour_logits=tumours,
        risks=risks,
        seed=seed,
        embedding=describe(prepared.array, deepest),
    )


def calibrated(probability: Array, sd: Array, calibration: Calibration) -> tuple[Array, Array]:
    """Return calibrated voxel probabilities and their SD, the latter to first order."""
    slope, intercept = calibration.voxel_slope, calibration.voxel_intercept
    if (slope, intercept) == (1.0, 0.0):
        return probability, sd
    moved, spread = np.empty_like(probability), np.empty_like(sd)
    for index, plane in enumerate(probability):  # a slice at a time: a dozen whole volumes would be the peak of memory
        p = np.clip(plane, 1e-7, 1 - 1e-7)
        moved[index] = _sigmoid(np.float32(slope) * (np.log(p) - np.log1p(-p)) + np.float32(intercept))
        steepness = slope * moved[index] * (1 - moved[index]) / (p * (1 - p))
        spread[index] = np.minimum(sd[index] * steepness, 0.5)
    return moved, spread


def binary_entropy(probability: Array) -> Array:
    """Return -p ln p - (1-p) ln(1-p) in nats."""
    p = np.clip(probability, 1e-7, 1 - 1e-7)
    return np.asarray(-p * np.log(p) - (1 - p) * np.log1p(-p), dtype=np.float32)


def volume_entropy(probability: Array) -> Array:
    """Return the same, a slice at a time: all at once would be the peak of memory."""
    return np.stack([binary_entropy(plane) for plane in probability])


@dataclass(frozen=True, kw_only=True, eq=False)
class _Voxels:
    """Mean probability, its SD and mutual information, filled chunk by chunk."""

    mean: Array
    sd: Array
    mutual: Array

    @classmethod
    def of(cls, shape: tuple[int, ...]) -> "_Voxels":
        mean, sd, mutual = (np.zeros(shape, dtype=np.float32) for _ in range(3))
        return cls(mean=mean, sd=sd, mutual=mutual)


@dataclass(kw_only=True, eq=False)
class _Moments:
    """Welford's running mean and squared deviations, and summed entropy."""

    mean: Array
    squares: Array
    doubt: Array
    passes: int = 0

    def add(self, values: Array) -> None:
        self.passes += 1
        delta = values - self.mean
        self.mean += delta / self.passes
        self.squares += delta * (values - self.mean)
        self.doubt += binary_entropy(values)


def _read(model: Model, prepared: Prepared, part: range, into: tuple[list[Masks], _Voxels]) -> list[Array]:
    """Fill in the voxels of the slices in `part` and return each member's f4.

    Features are forgotten with their chunk, so a long study needs no more memory than a short one.
    """
    masks, voxels = into
    stack = neighbour_stack(prepared.array, model.manifest.recipe, np.array(part))
    features = [member.encode(stack) for member in model.members]
    ones = {n: np.ones((1, w, 1, 1), np.float32) for n, w in model.manifest.dropout.decoder_masks.items()}
    first = [_sigmoid(member.decode(maps, ones)) for member, maps in zip(model.members, features, strict=True)]
    voxels.mean[part.start : part.stop] = np.mean(first, axis=0)
    conceivable = np.max(first, axis=0) >= model.manifest.calibration.explore_threshold
    for box in boxes(conceivable) if any(masks) else ():
        moments = _sample(model, features, box, masks)
        z, rows, columns = box.region
        where = (slice(part.start + z.start, part.start + z.stop), rows, columns)
        voxels.mean[where] = moments.mean
        voxels.sd[where] = np.sqrt(moments.squares / moments.passes)
        voxels.mutual[where] = np.maximum(binary_entropy(moments.mean) - moments.doubt / moments.passes, 0)
    return [maps[-1] for maps in features]


def _judge(
    model: Model, deepest: list[Array], masks: list[Masks]
) -> tuple[Array, tuple[float, ...], tuple[float, ...]]:
    """Return the members' mean activation map, and each pass's tumour logit and risk."""
    dropout = model.manifest.dropout
    names = dropout.head_masks
    ones = {n: np.ones(shape, np.float32) for n, shape in _shapes(dropout).items() if n in names}
    plain = [member.judge(maps, ones) for member, maps in zip(model.members, deepest, strict=True)]
    cam = np.mean([maps for maps, _, _ in plain], axis=0)
    reading = zip(model.members, deepest, masks, strict=True)
    pairs = [member.judge(maps, {n: m[n] for n in names})[1:] for member, maps, drawn in reading for m in drawn]
    pairs = pairs or [(tumour, risk) for _, tumour, risk in plain]
    return cam, tuple(p[0] for p in pairs), tuple(p[1] for p in pairs)


def boxes(region: NDArray[np.bool_]) -> tuple[Box, ...]:
    """Return disjoint boxes that cover `region` (slices, rows, columns) with a margin of at least one cell.

    Cells in the plane, joined over the slices given: parts that touch become one box.
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


def _sample(model: Model, features: list[list[Array]], box: Box, masks: list[Masks]) -> _Moments:
    shape = tuple(part.stop - part.start for part in box.region)
    mean, squares, doubt = (np.zeros(shape, dtype=np.float32) for _ in range(3))
    moments = _Moments(mean=mean, squares=squares, doubt=doubt)
    for member, maps, drawn in zip(model.members, features, masks, strict=True):
        cropped = [_crop(m, box, level) for level, m in enumerate(maps)]
        for mask in drawn:
            named = {name: mask[name] for name in model.manifest.dropout.decoder_masks}
            moments.add(_sigmoid(member.decode(cropped, named)))
    return moments


def _crop(feature: Array, box: Box, level: int) -> Array:
    scale = 2**level
    rows, columns = (slice(a // scale, b // scale) for a, b in (box.rows, box.columns))
    return np.ascontiguousarray(feature[box.region[0], :, rows, columns])


def _chunks(count: int) -> Iterator[range]:
    for start in range(0, count, CHUNK):
        yield range(start, min(start + CHUNK, count))


def _sigmoid(logits: Array) -> Array:
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * logits), dtype=np.float32)
