"""A joint step's data: crops that teach the outline, and whole studies that teach the heads."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from daemon.imaging.steps import neighbour_stack
from training.curriculum.crops import Crops, Picker, generator, laid_out, padded, truth
from training.curriculum.objectives import Live, Mixed
from training.curriculum.studies import Study
from training.data.sample import Sample
from training.settings import Settings


class MixedSteps(Dataset[Mixed]):
    """One joint step an index; a function of the key and the index alone.

    Args:
        samples: all samples, whatever truths they have.
        studies: their cached maps, in the same order.
        settings: the run's.
        key: what the draws come from, such as (seed, stage, process).
    """

    def __init__(
        self, samples: Sequence[Sample], studies: Sequence[Study], settings: Settings, key: tuple[int, ...]
    ) -> None:
        self._samples, self._studies, self._settings, self._key = samples, studies, settings, key
        masked = settings.network.needs_map or settings.network.do_seg
        self._crops = Crops(samples, settings, key) if masked and any(truth(s) is not None for s in samples) else None
        heads = settings.network.needs_map and settings.stages.studies
        self._picker = Picker(samples, settings.mixing) if heads else None

    def __len__(self) -> int:
        return self._settings.stages.joint_steps

    def __getitem__(self, step: int) -> Mixed:
        crops = None if self._crops is None else self._crops[step]
        if self._picker is None:
            return Mixed(crops=crops, studies=())
        rng = generator(*self._key, step, 1)
        chosen = {self._picker.pick(rng, step)[0] for _ in range(self._settings.stages.studies)}
        return Mixed(crops=crops, studies=tuple(self._live(i, rng) for i in sorted(chosen)))

    def _live(self, index: int, rng: np.random.Generator) -> Live:
        study, sample = self._studies[index], self._samples[index]
        volume = self._settings.network.spatial_dims == 3
        stack, indices = (self._slab if volume else self._slices)(sample, rng)
        return Live(
            number=index,
            stack=laid_out(stack),
            indices=torch.from_numpy(indices),
            deepest=torch.from_numpy(np.array(study.deepest)),
            cells=study.cells,
        )

    def _slices(self, sample: Sample, rng: np.random.Generator) -> tuple[Tensor, NDArray[np.int64]]:
        """Return some slices, half of them with tumour where there is one, as network input."""
        count, multiple = sample.image.shape[1], self._settings.network.multiple
        wanted = min(self._settings.stages.live_slices, count)
        marked = np.zeros(0, np.int64) if sample.mask is None else np.flatnonzero(sample.mask.any(axis=(1, 2)))
        some = rng.permutation(marked)[: wanted // 2]
        others = rng.permutation(np.setdiff1d(np.arange(count), some))[: wanted - len(some)]
        indices = np.sort(np.concatenate((some, others)))
        stack = neighbour_stack(sample.image, self._settings.recipe, indices).astype(np.float32)
        plane = tuple(-(-n // multiple) * multiple for n in stack.shape[2:])
        return torch.from_numpy(padded(stack, plane, float(stack.min()))), indices

    def _slab(self, sample: Sample, rng: np.random.Generator) -> tuple[Tensor, NDArray[np.int64]]:
        """Return a slab of a volume and which slices of the deepest map it makes."""
        multiple = self._settings.network.multiple
        size = [-(-n // multiple) * multiple for n in sample.image.shape[1:]]
        deep = min(self._settings.stages.crop_slices, size[0])
        first = int(rng.integers((size[0] - deep) // multiple + 1)) * multiple
        volume = padded(sample.image[None].astype(np.float32), tuple(size), float(sample.image.min()))
        indices = np.arange(first // multiple, (first + deep) // multiple)
        return torch.from_numpy(np.ascontiguousarray(volume[:, :, first : first + deep])), indices
