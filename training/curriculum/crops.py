"""Random crops of samples, balanced between tumour and none.

A step's crops are a function of seed, stage, step and process alone, so a resumed run sees what an uninterrupted one
would, whatever the number of loading processes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from daemon.imaging.steps import neighbour_stack
from training.curriculum import views
from training.curriculum.augment import Augment
from training.data.sample import Sample
from training.settings import MixingSettings, Settings

Cut = tuple[NDArray[np.float32], NDArray[np.float32]]


class Batch(NamedTuple):
    """Images (n, channels x neighbours, crop, crop) and masks (n, 1, crop, crop); volumes have their slices before.

    A tuple, because Fabric moves those to its device by itself. Images have their channels last in memory.
    """

    image: Tensor
    mask: Tensor


def laid_out(image: Tensor) -> Tensor:
    """Return slices with their channels last in memory (see `channels_last`); volumes as they are."""
    return image.contiguous(memory_format=torch.channels_last) if image.ndim == 4 else image.contiguous()


def truth(sample: Sample) -> NDArray[np.uint8] | None:
    """Return a sample's mask: the drawn one, an empty one where there is no tumour, None where nobody knows."""
    if sample.mask is None and sample.tumour == 0:
        return np.broadcast_to(np.uint8(0), sample.image.shape[1:])
    return sample.mask


def generator(*key: int) -> np.random.Generator:
    """Return the generator that belongs to a key such as (seed, stage, step, process)."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


class Picker:
    """Draws samples as the mixing says.

    Raises:
        ValueError: a weighted or single source is none of the samples', or nothing is left to draw.
    """

    def __init__(self, samples: Sequence[Sample], mixing: MixingSettings) -> None:
        sources = sorted({s.source for s in samples})
        named = {*mixing.weights} | ({mixing.only} if mixing.mode == "single" else set())
        unknown = [name for name in named if not any(source.startswith(name) for source in sources)]
        if unknown:
            raise ValueError(f"mixing names {sorted(unknown)}, but the samples' sources are {sources}; correct it")
        self._mixing = mixing
        weights = np.array([_weight(mixing, s.source) for s in samples])
        self._tumour = np.array([bool(s.tumour) for s in samples], dtype=bool)
        single = [source for source in sources if source.startswith(mixing.only)]
        wanted = single if mixing.mode == "single" else sources
        of = np.array([s.source for s in samples])
        groups = [weights * (of == source) for source in wanted]
        self._groups = groups if mixing.mode == "alternating" else [np.sum(groups, axis=0)]
        self._groups = [group for group in self._groups if group.sum() > 0]
        if not self._groups:
            raise ValueError(f"no sample is left to draw from the sources {wanted}; raise a weight or add samples")

    @property
    def drawable(self) -> list[int]:
        """Return the indices of the samples that may ever be drawn."""
        return [int(index) for index in np.flatnonzero(np.sum(self._groups, axis=0))]

    def pick(self, rng: np.random.Generator, step: int) -> tuple[int, bool]:
        """Return a sample's index, and whether a tumour was wanted and is there."""
        weights = self._groups[step % len(self._groups)]
        with_tumour = weights * self._tumour
        wanted = rng.random() < self._mixing.tumour_share and with_tumour.sum() > 0
        summed = np.cumsum(with_tumour if wanted else weights)
        return int(np.searchsorted(summed, rng.random() * summed[-1], side="right")), bool(wanted)


def _weight(mixing: MixingSettings, source: str) -> float:
    """Return the weight of the longest name that the source begins with; 1 without any."""
    fitting = [name for name in mixing.weights if source.startswith(name)]
    return mixing.weights[max(fitting, key=len)] if fitting else 1.0


class Crops(Dataset[Batch]):
    """One batch a step, drawn from the samples whose mask is known."""

    def __init__(self, samples: Sequence[Sample], settings: Settings, key: tuple[int, ...]) -> None:
        self._samples = [s for s in samples if truth(s) is not None]
        if not self._samples:
            raise ValueError("no sample has a mask; segmentation cannot be trained (network.do_seg = false)")
        self._settings, self._key = settings, key
        self._picker = Picker(self._samples, settings.mixing)
        self._augment = Augment(settings.augment, settings.recipe, settings.network.spatial_dims)
        self._marked: dict[int, NDArray[np.int64]] = {}
        self._content: dict[int, NDArray[np.int64]] = {}

    def __len__(self) -> int:
        return max(self._settings.stages.warmup_steps, self._settings.stages.joint_steps)

    def __getitem__(self, step: int) -> Batch:
        rng = generator(*self._key, step)
        self._augment.seed(int(rng.integers(2**32)))
        pairs = [self._one(rng, step) for _ in range(self._settings.stages.batch)]
        return Batch(image=laid_out(torch.stack([p[0] for p in pairs])), mask=torch.stack([p[1] for p in pairs]))

    def _one(self, rng: np.random.Generator, step: int) -> tuple[Tensor, Tensor]:
        index, wanted = self._picker.pick(rng, step)
        sample = self._samples[index]
        mask = truth(sample)
        if mask is None:
            raise ValueError(f"sample {sample.name} has no mask; filter it out before cropping")
        plane = views.draw(rng, self._settings.augment)
        if plane is not None:
            view = views.single(sample, mask, plane, rng, aim=wanted)
            image, marked = self._alone(view, self._window(view.mask, rng, aim=wanted))
        else:
            slices = self._slices(index, mask) if wanted else self._shown(index, sample)
            z = int(rng.choice(slices)) if slices.size else int(rng.integers(mask.shape[0]))
            cut = self._volume if self._settings.network.spatial_dims == 3 else self._stack
            image, marked = cut(sample, z, self._window(mask[z], rng, aim=wanted))
        return self._augment(torch.from_numpy(image), torch.from_numpy(marked))

    def _slices(self, index: int, mask: NDArray[np.uint8]) -> NDArray[np.int64]:
        if index not in self._marked:
            self._marked[index] = np.flatnonzero(mask.any(axis=(1, 2)))
        return self._marked[index]

    def _shown(self, index: int, sample: Sample) -> NDArray[np.int64]:
        """Return the slices that show something: an extracted brain in a wide frame has many that do not."""
        if index not in self._content:
            first = np.asarray(sample.image[0])
            self._content[index] = np.flatnonzero((first > first.min()).any(axis=(1, 2)))
        return self._content[index]

    def _window(
        self, mask: NDArray[np.uint8 | np.bool_], rng: np.random.Generator, *, aim: bool
    ) -> tuple[slice, slice]:
        crop = self._settings.stages.crop
        rows, columns = np.nonzero(mask) if aim else (np.zeros(0, np.int64),) * 2
        pick = int(rng.integers(rows.size)) if rows.size else None
        spans = []
        for length, hits in ((mask.shape[0], rows), (mask.shape[1], columns)):
            room = max(length - crop, 0)
            jitter = int(rng.integers(-crop // 3, crop // 3 + 1))
            centre = hits[pick] + jitter - crop // 2 if pick is not None else rng.integers(room + 1)
            start = int(np.clip(centre, 0, room))
            spans.append(slice(start, start + crop))
        return spans[0], spans[1]

    def _stack(self, sample: Sample, z: int, window: tuple[slice, slice]) -> Cut:
        crop, mask = self._settings.stages.crop, truth(sample)
        stack = neighbour_stack(sample.image[:, :, *window], self._settings.recipe, np.array([z]))[0]
        marked = np.zeros((1, 1, 1)) if mask is None else mask[z][window][None]
        return framed(stack, marked, (crop, crop))

    def _alone(self, view: views.View, window: tuple[slice, slice]) -> Cut:
        """Return a crop of a slice that stands in for its neighbours."""
        crop = self._settings.stages.crop
        stack = np.repeat(view.image[:, *window], self._settings.recipe.neighbours, axis=0)
        return framed(stack, view.mask[window][None], (crop, crop))

    def _volume(self, sample: Sample, z: int, window: tuple[slice, slice]) -> Cut:
        deep, crop, mask = self._settings.stages.crop_slices, self._settings.stages.crop, truth(sample)
        first = int(np.clip(z - deep // 2, 0, max(sample.image.shape[1] - deep, 0)))
        region = (slice(first, first + deep), *window)
        marked = np.zeros((1, 1, 1, 1)) if mask is None else mask[region][None]
        return framed(sample.image[:, *region], marked, (deep, crop, crop))


def framed(image: NDArray[np.generic], mask: NDArray[np.generic], size: tuple[int, ...]) -> Cut:
    """Return a crop and its mask at least `size` large: around the image its darkest value, around the mask nothing."""
    content = image.astype(np.float32)
    return padded(content, size, float(content.min())), padded(mask.astype(np.float32), size, 0)


def padded(array: NDArray[np.float32], size: tuple[int, ...], around: float) -> NDArray[np.float32]:
    """Return `array` with its last axes at least `size`, `around` it."""
    short = [max(want - have, 0) for want, have in zip(size, array.shape[-len(size) :], strict=True)]
    if not any(short):
        return array
    widths = [(0, 0)] * (array.ndim - len(size)) + [(n // 2, n - n // 2) for n in short]
    return np.pad(array, widths, mode="constant", constant_values=around)
