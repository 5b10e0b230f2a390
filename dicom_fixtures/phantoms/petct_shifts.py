"""What a shifted generator adds to trunks: other uptake, reconstruction, noise, metal, attenuation errors.

No training body has hot marrow, edge overshoot, grainy noise, metal or a slab of wrong attenuation. All draws come
from a stream of their own (`shifts.generator`), so that a plain trunk of the same seed stays as it is.
"""

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from dicom_fixtures.phantoms import fields, parts, uptake
from dicom_fixtures.phantoms.parts import Array


def pattern(rng: np.random.Generator, like: sitk.Image, ct: Array, inside: NDArray[np.bool_]) -> Array:
    """Return the SUV to add of a patient who is cold, has moved or has had marrow stimulated."""
    kind = rng.choice(["muscle", "brown fat", "marrow", "all"])
    added = np.zeros_like(ct)
    if kind in {"muscle", "all"}:
        added = added + uptake.muscle(rng, like, ct, 4.0)
    if kind in {"brown fat", "all"}:
        added = added + uptake.brown_fat(rng, like, ct, 6.0)
    if kind in {"marrow", "all"}:
        added = added + uptake.marrow(rng, ct, 4.0)
    return np.asarray(added * inside, dtype=np.float32)


def lookalikes(rng: np.random.Generator, like: sitk.Image, ct: Array, inside: NDArray[np.bool_]) -> Array:
    """Return the SUV to add of many nodes and inflamed spots, and of active bowel."""
    soft = inside & (ct > -60) & (ct < 150)
    return np.asarray(uptake.spots(rng, like, soft, (16, 3.0)) + uptake.gut(rng, like, soft, 6.0), dtype=np.float32)


def reconstruct(rng: np.random.Generator, like: sitk.Image, pet: Array) -> Array:
    """Return the PET of another reconstruction: softer, or with the overshoot of resolution recovery; grainy noise.

    Overshoot: Rahmim et al. 2013, doi 10.1118/1.4800806.
    """
    sigmas = [float(rng.uniform(3.0, 4.5)) / step for step in like.GetSpacing()[::-1]]
    soft = fields.along(pet, *[fields.gaussian(n, s) for n, s in zip(pet.shape, sigmas, strict=True)])
    image = soft if rng.random() < 0.4 else pet + float(rng.uniform(0.3, 0.8)) * (pet - soft)
    grain = np.exp(float(rng.uniform(0.1, 0.3)) * rng.standard_normal(pet.shape, dtype=np.float32))
    return np.asarray(np.maximum(image, 0) * grain, dtype=np.float32)


def artefact(rng: np.random.Generator, like: sitk.Image, pet: Array, ct: Array) -> tuple[Array, Array]:
    """Return PET and CT with metal, a slab of wrong attenuation, a breath between them, or as they were."""
    kind = rng.choice(["none", "metal", "slab", "breath"])
    if kind == "metal":
        return _metal(rng, like, pet, ct)
    if kind == "slab":
        z = parts.axes_mm(like)[0]
        slab = np.exp(-0.5 * ((z - float(rng.uniform(-100, 100))) / float(rng.uniform(15, 40))) ** 2)
        pet = pet * (1 + float(rng.choice((-0.4, 0.6))) * slab)
    elif kind == "breath":
        ct = np.roll(ct, int(rng.choice((-2, 2))), axis=0)
    return np.asarray(pet, dtype=np.float32), np.asarray(ct, dtype=np.float32)


def _metal(rng: np.random.Generator, like: sitk.Image, pet: Array, ct: Array) -> tuple[Array, Array]:
    """Put an implant of 3000 HU into bone: streaks over its slices, and PET corrected too much beside it."""
    bone = (ct > 250) & (ct < 1500)
    if not bone.any():
        return pet, ct
    z, y, x = parts.pick_centre(rng, bone, like)
    radius = float(rng.uniform(9, 20))
    away = parts.ellipsoid(like, (z, y, x), (2 * radius, radius, radius))
    axes = parts.axes_mm(like)
    angle = np.arctan2(axes[1] - y, axes[2] - x)
    slices = np.clip(2.2 - np.abs(axes[0] - z) / radius, 0, 1)
    streaks = np.cos(float(rng.integers(3, 9)) * angle + float(rng.uniform(0, 6))) ** 3 * np.exp(-away / 4) * slices
    streaked = ct + float(rng.uniform(250, 700)) * streaks * (ct > -900)
    implanted = np.where(away < 1, 3000.0, np.clip(streaked, -1024, 3000))
    beside = float(rng.uniform(0.5, 2.0)) * np.exp(-(((away - 1.2) / 0.35) ** 2))
    return np.asarray(pet * (1 + beside), dtype=np.float32), np.asarray(implanted, dtype=np.float32)
