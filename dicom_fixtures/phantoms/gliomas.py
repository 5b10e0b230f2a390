"""Brain tumours for training: infiltration along white matter, cores that enhance, die or hollow out.

Infiltration is a front that travels fast in white matter, slower in grey and hardly in fluid (Swanson et al. 2000,
doi 10.1046/j.1365-2184.2000.00177.x), so oedema ends at sulci and falx and crosses by the corpus callosum.
"""

from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from dicom_fixtures.phantoms import fields, parts
from dicom_fixtures.phantoms.heads import Head, Pressure
from dicom_fixtures.phantoms.parts import Array, Spacing

KINDS = ("diffuse", "ring", "solid", "cystic")
# Ranges of oedema, enhancing part, necrosis and cyst, on the scale of `brain.SIGNAL`.
SIGNAL = {
    "FLAIR": ((0.78, 1.10), (0.65, 1.05), (0.30, 0.95), (0.06, 0.30)),
    "T2": ((0.72, 1.00), (0.50, 0.85), (0.75, 1.10), (0.90, 1.15)),
    "T1": ((0.38, 0.62), (0.45, 0.80), (0.18, 0.42), (0.10, 0.25)),
    "T1C": ((0.38, 0.62), (0.95, 1.70), (0.18, 0.42), (0.10, 0.25)),
}
# Below this radius a front on the coarse grid has no shape; a blob is drawn instead.
FRONT_MM = 8.0


@dataclass(frozen=True, kw_only=True)
class Seed:
    """Where a tumour starts (z, y, x in mm), what it becomes and how large (radius of its volume's ball in mm)."""

    kind: str
    centre: Spacing
    radius: float
    strength: float

    def pressure(self, rng: np.random.Generator) -> Pressure:
        """Return a push of up to a third of the radius and, of large ones, sometimes a midline shift."""
        push = self.radius * float(rng.uniform(0, 0.33)) * (0.3 if self.kind == "diffuse" else 1.0)
        shift = float(rng.uniform(0, 0.35)) * self.radius if self.radius > 12 and rng.random() < 0.5 else 0.0
        return Pressure(centre=self.centre, radius=self.radius, push=push, shift=min(shift, 9.0))


@dataclass(frozen=True, kw_only=True, eq=False)
class Tumour:
    """A grown tumour: `whole` and `core` are 1 on their surfaces, below 1 inside; `texture` has unit deviation."""

    seed: Seed
    whole: Array
    core: Array
    texture: Array

    @property
    def enhances(self) -> bool:
        """Say whether contrast agent shows a part of it."""
        return self.seed.kind in {"ring", "solid"}


def grow(rng: np.random.Generator, head: Head, seed: Seed) -> Tumour:
    """Return the tumour of `seed` in the pressed `head`."""
    near = fields.noise(rng, head.like, max(seed.radius * 0.5, 4.0))
    texture = 0.7 * near + 0.7 * fields.noise(rng, head.like, 4.0)
    room = (head.small_brain > 0.5) & (head.small_t1 > 45)
    centre = _nearest(room, head.small, seed.centre)
    if seed.radius < FRONT_MM:
        whole = _blob(rng, head.like, centre, seed.radius) + 0.12 * near
        small = _blob(rng, head.small, centre, seed.radius)
    else:
        small = _front(rng, head, replace(seed, centre=centre))
        whole = fields.upsample(small, head.like) + 0.05 * near
    core = np.full_like(whole, 3.0)
    if seed.kind != "diffuse":
        count = int(rng.integers(2, 4)) if seed.radius > 14 and rng.random() < 0.25 else 1
        for turn in range(count):
            inner = (small < (0.5 if turn == 0 else 0.9)) & room
            place = parts.pick_centre(rng, inner, head.small) if inner.any() else centre
            size = seed.radius * float(rng.uniform(0.45, 1.0) if turn == 0 else rng.uniform(0.15, 0.4))
            core = np.minimum(core, _blob(rng, head.like, place, max(size, 2.0)) + 0.2 * near)
        core = np.where(whole > 0.97, np.maximum(core, 1.3), core)
    return Tumour(seed=seed, whole=whole.astype(np.float32), core=core.astype(np.float32), texture=texture)


def _nearest(room: NDArray[np.bool_], like: sitk.Image, centre: Spacing) -> Spacing:
    away = parts.ellipsoid(like, centre, (1.0, 1.0, 1.0))
    index = np.unravel_index(int(np.argmin(np.where(room, away, np.inf))), room.shape)
    z, y, x = (axis.ravel()[i] for axis, i in zip(parts.axes_mm(like), index, strict=True))
    return float(z), float(y), float(x)


def _blob(rng: np.random.Generator, like: sitk.Image, centre: Spacing, radius: float) -> Array:
    z, y, x = (radius * float(rng.uniform(0.75, 1.3)) for _ in range(3))
    return parts.ellipsoid(like, centre, (z, y, x))


def _front(rng: np.random.Generator, head: Head, seed: Seed) -> Array:
    """Return arrival time over the time at which the seed's volume is reached, on the coarse grid."""
    grey = float(rng.uniform(0.55, 1.0) if seed.kind == "solid" else rng.uniform(0.2, 0.8))
    easy = np.interp(head.small_t1, (25, 50, 80, 108), (0.03, 0.6 * grey, grey, 1.0))
    speed = easy * np.exp(float(rng.uniform(0.2, 0.6)) * fields.noise(rng, head.small, float(rng.uniform(10, 22))))
    image = sitk.GetImageFromArray(np.where(head.small_brain > 0.5, speed, 1e-3).astype(np.float32))
    image.CopyInformation(head.small)
    z, y, x = seed.centre
    start = head.small.TransformPhysicalPointToIndex((x, y, z))
    # A front that meets much fluid needs longer than the radius alone says.
    times: Array = sitk.GetArrayFromImage(
        sitk.FastMarching(image, [[int(i) for i in start]], 1.0, 5.0 * seed.radius / grey)
    )
    voxel = float(np.prod(head.small.GetSpacing()))
    count = min(int(4.19 * seed.radius**3 / voxel) + 1, times.size - 1)
    reached = min(float(np.partition(times.ravel(), count)[count]), 5.0 * seed.radius / grey)
    return np.asarray(np.minimum(times / max(reached, 1e-3), 3.0), dtype=np.float32)


def extent(head: Head, tumour: Tumour, contrast: str) -> NDArray[np.bool_]:
    """Return what an outline in `contrast` covers: with contrast agent an enhancing core alone, else all of it."""
    core = tumour.core < 1
    if contrast == "T1C" and tumour.enhances:
        return core
    return np.asarray((head.brain > 0.5) & (((tumour.whole < 1) & (head.t1 > 42)) | core))


def paint(rng: np.random.Generator, head: Head, image: Array, tumour: Tumour, contrast: str) -> Array:
    """Return `image` with the tumour as `contrast` shows it."""
    oedema, rim, necrosis, cyst = (float(rng.uniform(*bounds)) for bounds in SIGNAL[contrast])
    strength, texture = tumour.seed.strength, tumour.texture
    rough = float(rng.uniform(0.03, 0.14))
    # Infiltration does not fill sulci and ventricles; a core does.
    solid = np.asarray(np.clip((head.t1 - 25) / 30, 0, 1) * head.brain, dtype=np.float32)
    cover = parts.within(tumour.whole, 0.98, float(rng.uniform(0.015, 0.07))) * solid
    image = image + np.float32(strength) * cover * (oedema * (1 + rough * texture) - image)
    if tumour.seed.kind == "diffuse":
        return np.asarray(image, dtype=np.float32)
    cover = parts.within(tumour.core, 0.98, 0.03) * head.brain
    image = image + min(strength * 1.15, 1.0) * cover * (rim * (1 + 1.5 * rough * texture) - image)
    if tumour.seed.kind != "solid":
        value = cyst if tumour.seed.kind == "cystic" else necrosis
        heart = parts.within(tumour.core + 0.06 * texture, float(rng.uniform(0.5, 0.9)), 0.04) * head.brain
        image = image + min(strength * 1.15, 1.0) * heart * (value * (1 + rough * texture) - image)
    return np.asarray(image, dtype=np.float32)
