"""What in a normal head resembles a tumour, for training: age, fluid, vessels, mucosa."""

import numpy as np
from numpy.typing import NDArray

from dicom_fixtures.phantoms import fields, parts
from dicom_fixtures.phantoms.heads import Head
from dicom_fixtures.phantoms.parts import Array


def hollow(rng: np.random.Generator, head: Head, *, many: bool) -> Array:
    """Return T1 grey levels with widened perivascular spaces, lacunes and, rarely, an arachnoid cyst as fluid."""
    t1 = head.t1.copy()
    deep = (head.edge_mm < -18) & (head.small_t1 > 60)
    for _ in range(int(rng.integers(0, 40 if many else 14)) if deep.any() else 0):
        radius = float(rng.uniform(0.7, 1.6 if rng.random() < 0.9 else 3.5))
        _fill(t1, head, parts.pick_centre(rng, deep, head.small), (radius * 1.8, radius, radius))
    rim = (np.abs(head.edge_mm) < 3) & (head.small_brain > 0.2)
    if rim.any() and rng.random() < (0.5 if many else 0.08):
        radius = float(rng.uniform(8, 20))
        _fill(t1, head, parts.pick_centre(rng, rim, head.small), (radius, radius, radius * 0.7))
    return t1


def _fill(t1: Array, head: Head, centre: parts.Spacing, radii: parts.Spacing) -> None:
    window, distance = fields.spot(head.like, centre, radii)
    inside = parts.within(distance, 1.0, 0.08) * head.brain[window]
    t1[window] += inside * (20 - t1[window])


def white_matter(rng: np.random.Generator, head: Head, *, many: bool) -> Array:
    """Return 0..1 brightness of caps, haloes, confluent patches and spots that age leaves in white matter."""
    inner = head.edge_mm < -12
    fluid = fields.signed_distance((head.small_t1 < 42) & inner, head.small)
    white = np.clip((head.small_t1 - 75) / 25, 0, 1) * (head.small_brain > 0.8)
    bright = np.zeros_like(head.small_t1)
    if many or rng.random() < 0.6:
        halo = np.exp(-np.maximum(fluid, 0) / float(rng.uniform(1.0, 4.0))) * (fluid > -1)
        bright = np.maximum(bright, halo * np.clip((head.small_t1 - 50) / 30, 0, 1) * float(rng.uniform(0.2, 0.9)))
    if rng.random() < (0.9 if many else 0.3):
        floor = float(rng.uniform(0.2, 0.9) if many else rng.uniform(0.6, 1.6))
        patch = np.clip(fields.noise(rng, head.small, float(rng.uniform(7, 16))) - floor, 0, 1)
        reach = np.exp(-np.maximum(fluid, 0) / float(rng.uniform(5, 14)))
        bright = np.maximum(
            bright, np.clip(2.5 * patch, 0, 1) * reach * white * float(rng.uniform(0.7 if many else 0.4, 1.0))
        )
    full = fields.upsample(bright, head.like)
    room = white > 0.8
    for _ in range(int(rng.integers(0, 45 if many else 14)) if room.any() else 0):
        radius = float(rng.uniform(1.0, 3.2))
        centre = parts.pick_centre(rng, room, head.small)
        window, distance = fields.spot(head.like, centre, (radius + 1, radius, radius * float(rng.uniform(1, 2))))
        full[window] = np.maximum(full[window], np.clip(1.5 - distance, 0, 1) * float(rng.uniform(0.3, 1.0)))
    return np.asarray(full, dtype=np.float32)


def fluid(rng: np.random.Generator, head: Head, contrast: str) -> Array:
    """Return the signal to add to fluid: flow on FLAIR, choroid plexus on all but T2."""
    share = np.clip((42 - head.t1) / 20, 0, 1) * (head.brain > 0.5)
    added = np.zeros_like(head.t1)
    if contrast == "FLAIR" and rng.random() < 0.5:
        flow = np.clip(fields.noise(rng, head.like, float(rng.uniform(12, 30))) - 0.4, 0, 1.5)
        added = added + flow * float(rng.uniform(0.1, 0.6))
    if contrast != "T2" and rng.random() < 0.6:
        deep = fields.upsample((head.edge_mm < -20).astype(np.float32), head.like)
        plexus = np.clip(fields.noise(rng, head.like, 5.0) - 1.2, 0, 0.5) * 2
        added = added + plexus * deep * float(rng.uniform(0.2, 1.0 if contrast == "T1C" else 0.6))
    return np.asarray(added * share, dtype=np.float32)


def vessels(rng: np.random.Generator, head: Head) -> Array:
    """Return 0..1 brightness after contrast agent of dura, sinuses and the vessels in sulci, none in deep tissue."""
    edge = fields.upsample(head.edge_mm, head.like)
    patchy = np.clip(fields.noise(rng, head.like, 18.0) + float(rng.uniform(-0.8, 0.8)), 0, 1)
    dura = np.exp(-(((edge - 1.0) / float(rng.uniform(0.6, 1.6))) ** 2)) * patchy
    first, second = (fields.noise(rng, head.like, float(rng.uniform(9, 16))) for _ in range(2))
    lines = np.exp(-(first**2 + second**2) / float(rng.uniform(0.02, 0.06)))
    sulci = np.clip((70 - head.t1) / 25, 0, 1) * (edge > -25)
    lines = lines * np.maximum(sulci, 0.15 * (edge > -30))
    z, _, x = parts.axes_mm(head.like)
    middle = np.exp(-((x / float(rng.uniform(2.5, 5))) ** 2)) * np.exp(-(((edge + 1) / 2.5) ** 2)) * (z > -40)
    bright = np.maximum(np.maximum(dura * float(rng.uniform(0.2, 1.0)), lines), middle * float(rng.uniform(0.3, 1.0)))
    return np.asarray(bright, dtype=np.float32)


def outside(rng: np.random.Generator, head: Head) -> Array:
    """Return factors for tissue outside the brain: uneven fat, bright eyes, inflamed sinus mucosa."""
    factor = np.exp(float(rng.uniform(0.05, 0.35)) * fields.noise(rng, head.like, 22.0))
    base: NDArray[np.bool_] = (head.small_brain < 0.05) & (head.small_t1 > 12) & (head.edge_mm < 45)
    if base.any():
        for _ in range(int(rng.integers(0, 6))):
            radius = float(rng.uniform(4, 14))
            centre = parts.pick_centre(rng, base, head.small)
            window, distance = fields.spot(head.like, centre, (radius, radius, radius))
            factor[window] *= 1 + float(rng.uniform(0.3, 2.0)) * np.clip(1.3 - distance, 0, 1)
    return np.asarray(factor, dtype=np.float32)
