"""Whole studies as the heads see them: the encoder's deepest map of every slice, cached on disk, with its truths."""

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn

from daemon.imaging.steps import neighbour_stack
from training import losses
from training.curriculum.crops import padded, truth
from training.data.sample import Sample
from training.network import MultitaskNet, as_slices
from training.settings import Settings

CHUNK = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """One study's deepest map (slices, c, h, w) in half precision, with its truths; `cells` is (slices, 1, h, w)."""

    deepest: NDArray[np.float16]
    cells: Tensor | None
    tumour: int | None
    time_days: float | None
    event: int | None

    @property
    def followed(self) -> bool:
        """Return whether its survival is known."""
        return self.time_days is not None and self.event is not None


def inputs(
    sample: Sample, settings: Settings, indices: NDArray[np.int64] | None = None
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield network inputs with their masks, padded to what the network can halve.

    Slices come in chunks, those of `indices` or all; a 3-D network gets its volume in one piece whatever `indices`.
    """
    multiple, mask = settings.network.multiple, truth(sample)
    if settings.network.spatial_dims == 3:
        size = tuple(-(-n // multiple) * multiple for n in sample.image.shape[1:])
        yield _tensors(sample.image[None], None if mask is None else mask[None, None], size)
        return
    chosen = np.arange(sample.image.shape[1]) if indices is None else indices
    plane = tuple(-(-n // multiple) * multiple for n in sample.image.shape[2:])
    for start in range(0, len(chosen), CHUNK):
        part = chosen[start : start + CHUNK]
        stack = neighbour_stack(sample.image, settings.recipe, part)
        yield _tensors(stack, None if mask is None else mask[part][:, None], plane)


def _tensors(
    image: NDArray[np.float16], mask: NDArray[np.uint8] | None, size: tuple[int, ...]
) -> tuple[Tensor, Tensor | None]:
    ready = torch.from_numpy(padded(image.astype(np.float32), size, float(image.min())))
    return ready, None if mask is None else torch.from_numpy(padded(mask.astype(np.float32), size, 0))


@torch.no_grad()
def embed(fabric: Fabric, net: MultitaskNet, samples: Sequence[Sample], settings: Settings, cache: Path) -> list[Study]:
    """Return every sample as a study, running the encoder once over each that is not in `cache` yet.

    The cache's folder is named after the encoder's weights, so that another encoder's maps are never taken;
    those are removed.
    """
    folder = cache / digest(net.encoder)
    folder.mkdir(parents=True, exist_ok=True)
    if fabric.is_global_zero:
        for other in {*cache.iterdir()} - {folder}:
            shutil.rmtree(other)
    net.eval()
    # Shared out before looking: what is missing changes while the other processes work.
    shared = samples[fabric.global_rank :: fabric.world_size]
    mine = [s for s in {s.name: s for s in shared}.values() if not (folder / f"{s.name}.npy").exists()]
    for sample in track(mine, description="embed", disable=not mine or not fabric.is_global_zero):
        maps = []
        for stack, _ in inputs(sample, settings):
            with fabric.autocast():
                maps.append(as_slices(net.encoder(fabric.to_device(stack))[-1]).half().cpu())
        partial = folder / f"{sample.name}.part.npy"
        np.save(partial, torch.cat(maps).contiguous().numpy())
        partial.rename(folder / f"{sample.name}.npy")
    fabric.barrier()
    return [_study(sample, folder / f"{sample.name}.npy", settings) for sample in samples]


def digest(net: nn.Module) -> str:
    """Return a short name of a network's weights."""
    known = hashlib.sha256()
    for value in net.state_dict().values():
        known.update(value.detach().cpu().contiguous().numpy().tobytes())
    return known.hexdigest()[:16]


def _study(sample: Sample, path: Path, settings: Settings) -> Study:
    cells = [
        losses.cell_truth(mask, settings.network.multiple) for _, mask in inputs(sample, settings) if mask is not None
    ] if truth(sample) is not None else []  # fmt: skip
    return Study(
        deepest=np.load(path, mmap_mode="r"),
        cells=torch.cat(cells) if cells else None,
        tumour=sample.tumour,
        time_days=sample.time_days,
        event=sample.event,
    )
