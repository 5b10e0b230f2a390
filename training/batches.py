"""Random crops of cached samples, balanced between tumour and none."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from daemon.domain.model_bundle import Normalisation, Recipe
from daemon.imaging.steps import neighbour_stack
from training.data.sample import Sample

TUMOUR_SHARE = 0.6


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Images (n, channels x neighbours, crop, crop) and masks (n, 1, crop, crop)."""

    image: Tensor
    mask: Tensor


class Crops:
    """Endless batches, drawn from `samples` with the generator that `seed` gives."""

    def __init__(self, samples: Sequence[Sample], recipe: Recipe, *, crop: int, seed: int) -> None:
        self._samples = [s for s in samples if s.mask is not None]
        self._recipe = recipe
        self._crop = crop
        self._rng = np.random.Generator(np.random.Philox(seed))
        self._tumours = [i for i, s in enumerate(self._samples) if s.tumour]
        self._slices = {i: np.flatnonzero(_mask(self._samples[i]).any(axis=(1, 2))) for i in self._tumours}

    def batches(self, steps: int, size: int) -> Iterator[Batch]:
        """Yield `steps` batches of `size` crops."""
        for _ in range(steps):
            pairs = [self._one() for _ in range(size)]
            image = torch.from_numpy(np.stack([p[0] for p in pairs]))
            mask = torch.from_numpy(np.stack([p[1] for p in pairs]))
            yield Batch(image=image, mask=mask)

    def _one(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        rng = self._rng
        wanted = rng.random() < TUMOUR_SHARE
        index = int(rng.choice(self._tumours)) if wanted else int(rng.integers(len(self._samples)))
        sample = self._samples[index]
        mask = _mask(sample)
        slices = self._slices.get(index, np.zeros(0))
        z = int(rng.choice(slices)) if wanted and len(slices) else int(rng.integers(mask.shape[0]))
        window = self._window(mask[z], aim=wanted)
        stack = neighbour_stack(sample.image[:, :, window[0], window[1]], self._recipe, np.array([z]))[0]
        image, marked = _padded(stack.astype(np.float32), self._crop), _padded(mask[z][window][None], self._crop)
        return self._augment(image), self._flip(marked.astype(np.float32))

    def _window(self, mask: NDArray[np.uint8], *, aim: bool) -> tuple[slice, slice]:
        rows, columns = np.nonzero(mask)
        pick = int(self._rng.integers(rows.size)) if aim and rows.size else None
        spans = []
        for length, hits in ((mask.shape[0], rows), (mask.shape[1], columns)):
            room = max(length - self._crop, 0)
            jitter = int(self._rng.integers(-self._crop // 3, self._crop // 3 + 1))
            centre = hits[pick] + jitter - self._crop // 2 if pick is not None else self._rng.integers(room + 1)
            start = int(np.clip(centre, 0, room))
            spans.append(slice(start, start + self._crop))
        return spans[0], spans[1]

    def _augment(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        rng = self._rng
        k = self._recipe.neighbours
        self._flips = (bool(rng.random() < 0.5), bool(rng.random() < 0.2), bool(rng.random() < 0.5))
        for c, channel in enumerate(self._recipe.channels):
            part = image[c * k : (c + 1) * k]
            if channel.normalisation is Normalisation.WINDOW:
                part *= float(np.exp(rng.normal(0, 0.12))) if channel.role == "PET" else 1.0
            else:
                part *= float(np.exp(rng.normal(0, 0.12)))
                part += float(rng.normal(0, 0.15))
            if self._flips[2]:
                part[:] = part[::-1].copy()
        return self._flip(image)

    def _flip(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        left, up, _ = self._flips
        array = array[..., ::-1] if left else array
        return np.ascontiguousarray(array[..., ::-1, :] if up else array)


def _mask(sample: Sample) -> NDArray[np.uint8]:
    if sample.mask is None:
        raise ValueError(f"sample {sample.name} has no mask; filter it out before cropping")
    return sample.mask


def _padded(array: NDArray, size: int) -> NDArray:  # type: ignore[type-arg]
    short = [max(size - n, 0) for n in array.shape[-2:]]
    if not any(short):
        return array
    widths = [(0, 0)] * (array.ndim - 2) + [(n // 2, n - n // 2) for n in short]
    return np.pad(array, widths, mode="constant", constant_values=array.min())
