"""Uptake that is no tumour: muscle, brown fat, marrow, gut, ureters, inflammation, contamination."""

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from dicom_fixtures.phantoms import fields, parts
from dicom_fixtures.phantoms.parts import Array

Region = NDArray[np.bool_]


def muscle(rng: np.random.Generator, like: sitk.Image, ct: Array, highest: float) -> Array:
    """Return the SUV to add in long muscles in use, up to `highest`."""
    belly = np.clip(fields.noise(rng, like, float(rng.uniform(35, 70))) - float(rng.uniform(0.2, 1.0)), 0, 1)
    return np.asarray(belly * ((ct > 20) & (ct < 110)) * float(rng.uniform(0.2, 1.0)) * highest, dtype=np.float32)


def brown_fat(rng: np.random.Generator, like: sitk.Image, ct: Array, highest: float) -> Array:
    """Return the SUV to add in patches of fat, up to `highest`."""
    patch = np.clip(fields.noise(rng, like, float(rng.uniform(12, 22))) - float(rng.uniform(1.1, 1.9)), 0, 1)
    fat = (ct > -140) & (ct < -40)
    return np.asarray(patch * fat * float(rng.uniform(0.2, 1.0)) * highest, dtype=np.float32)


def marrow(rng: np.random.Generator, ct: Array, highest: float) -> Array:
    """Return the SUV to add in bone, up to `highest`."""
    return np.asarray(np.clip((ct - 110) / 60, 0, 1) * (ct < 900) * float(rng.uniform(0, highest)), dtype=np.float32)


def gut(rng: np.random.Generator, like: sitk.Image, soft: Region, highest: float) -> Array:
    """Return the SUV to add along winding bowel in the belly of the trunk, up to `highest`."""
    folds = np.exp(-((fields.noise(rng, like, float(rng.uniform(32, 55))) / 0.16) ** 2))
    belly = parts.ellipsoid(like, (20.0, -45.0, 0.0), (110.0, 60.0, 110.0)) < 1
    active = np.clip(fields.noise(rng, like, 60.0) + float(rng.uniform(-0.5, 1.0)), 0, 1)
    return np.asarray(folds * belly * soft * active * float(rng.uniform(0.3, highest)), dtype=np.float32)


def spots(rng: np.random.Generator, like: sitk.Image, allowed: Region, limits: tuple[int, float]) -> Array:
    """Return the SUV to add in small spots of inflammation, nodes and ureters: up to (count, SUV) of `limits`."""
    count, highest = limits
    added = np.zeros(allowed.shape, dtype=np.float32)
    for _ in range(int(rng.integers(0, count + 1)) if allowed.any() else 0):
        radius = float(rng.uniform(3, 8))
        centre = parts.pick_centre(rng, allowed, like)
        window, distance = fields.spot(like, centre, (radius * float(rng.uniform(1, 3)), radius, radius))
        added[window] += np.clip(1.3 - distance, 0, 1) * float(rng.uniform(0.2, 1.0)) * highest
    return added
