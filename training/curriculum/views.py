"""Slices as pictures show them: without neighbours, and in planes other than the axial one."""

from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from training.data.sample import Sample
from training.settings import AugmentSettings

Array = NDArray[np.float32]
Plane = Literal["axial", "coronal", "sagittal"]
# The axis of (slices, rows, columns) that a plane's slices follow on each other along.
AXIS: dict[Plane, int] = {"axial": 0, "coronal": 1, "sagittal": 2}


class View(NamedTuple):
    """One slice: image (channels, rows, columns) and mask (rows, columns)."""

    image: Array
    mask: NDArray[np.bool_]


def draw(rng: np.random.Generator, settings: AugmentSettings) -> Plane | None:
    """Return the plane of a slice to show alone; None for one with its neighbours."""
    strength = min(settings.strength, 1.0)
    flat, turned = settings.flat * strength, settings.planes * strength
    if not flat + turned:
        return None
    drawn = rng.random()
    if drawn >= flat + turned:
        return None
    return "axial" if drawn < flat else "coronal" if drawn < flat + turned / 2 else "sagittal"


def single(sample: Sample, mask: NDArray[np.uint8], plane: Plane, rng: np.random.Generator, *, aim: bool) -> View:
    """Return a random slice of `sample` in `plane`; with `aim`, one that its mask marks."""
    axis = AXIS[plane]
    others = tuple(i for i in range(3) if i != axis)
    marked = np.flatnonzero(mask.any(axis=others)) if aim else np.zeros(0, np.int64)
    # A head's first and last slices show hardly anything.
    edge = mask.shape[axis] // 10
    position = int(rng.choice(marked)) if marked.size else int(rng.integers(edge, mask.shape[axis] - edge))
    image = upright(np.take(sample.image, position, axis=1 + axis), plane, sample.spacing)
    shown = upright(np.take(mask, position, axis=axis)[None], plane, sample.spacing)[0]
    return View(image=image, mask=shown > 0.5)


def upright(flat: NDArray[np.generic], plane: Plane, spacing: tuple[float, float, float]) -> Array:
    """Return a slice (channels, rows, columns) as viewers show it.

    Coronal and sagittal slices get the head's top in their first row, and pixels as high as wide: `spacing` is the
    volume's (slice, row, column), of which their rows have the first.
    """
    image = np.ascontiguousarray(flat, dtype=np.float32)
    if plane == "axial":
        return image
    turned = torch.from_numpy(np.ascontiguousarray(image[:, ::-1]))
    rows = max(round(image.shape[1] * spacing[0] / spacing[2 if plane == "coronal" else 1]), 1)
    shown = functional.interpolate(turned[None], size=(rows, image.shape[2]), mode="bilinear", align_corners=False)
    return np.asarray(shown[0].numpy(), dtype=np.float32)
