"""Heads for training: everything random that real heads vary in (`BrainRequest.randomise`)."""

import numpy as np
from numpy.typing import NDArray

from dicom_fixtures.phantoms import fields, gliomas, heads, mimics, parts, scanner
from dicom_fixtures.phantoms.heads import Head, Pose
from dicom_fixtures.phantoms.parts import Array, Phantom
from dicom_fixtures.phantoms.request import BrainRequest
from dicom_fixtures.phantoms.tissue import OUTSIDE_LEVELS, SIGNAL

# Most gliomas are found large (BraTS whole tumours: median about 90 ml); the rest are small.
LARGE_RADII_MM = (12.0, 36.0)
RADII_MM = (4.0, 14.0)


def wild_brain(request: BrainRequest) -> Phantom:
    """Return a training head with `request.lesions` tumours, outlined as the first contrast shows them.

    Raises:
        KeyError: a contrast is not one of `SIGNAL`.
        ValueError: the lesions do not fit into the brain.
    """
    rng = parts.generator(request.seed)
    posed = heads.pose(rng, request.spacing)
    seeds = _seeds(rng, posed, request)
    posed = heads.press(posed, tuple(seed.pressure(rng) for seed in seeds))
    head = heads.head(rng, posed)
    tumours = [gliomas.grow(rng, head, seed) for seed in seeds]
    extents = _extents(head, tumours, request.contrasts[0])
    mask = np.logical_or.reduce(extents) if extents else np.zeros(head.t1.shape, dtype=bool)
    many = request.stratum == "look-alikes"
    head = _hollowed(rng, head, tumours, many=many)
    bright = mimics.white_matter(rng, head, many=many)
    age = float(rng.uniform(18, 88))
    images = {name: _image(rng, head, tumours, bright, name) for name in request.contrasts}
    lesions = tuple(parts.measure(extent, head.like, t.seed.kind) for extent, t in zip(extents, tumours, strict=True))
    return Phantom(
        images=images,
        mask=mask.astype(np.uint8),
        spacing=request.spacing,
        origin=head.like.GetOrigin(),
        lesions=lesions,
        log_hazard=parts.log_hazard(lesions, age),
        age_years=age,
        sex="F" if rng.random() < 0.5 else "M",
        weight_kg=float(rng.normal(75, 12)),
    )


def _seeds(rng: np.random.Generator, posed: Pose, request: BrainRequest) -> tuple[gliomas.Seed, ...]:
    small = fields.coarse(posed.like, heads.COARSE_MM)
    t1, brain = heads.tissue(posed, small)
    edge = fields.signed_distance(brain > 0.5, small)
    taken = np.zeros(brain.shape, dtype=bool)
    seeds: list[gliomas.Seed] = []
    for _ in range(request.lesions):
        large = rng.random() < 0.65
        radius = float(np.exp(rng.uniform(*np.log(request.radii_mm(LARGE_RADII_MM if large else RADII_MM)))))
        room = (brain > 0.5) & (t1 > 55) & ~taken & _depth(edge, radius, request)
        centre = parts.pick_centre(rng, room if room.any() else (brain > 0.5) & ~taken, small)
        kind = str(rng.choice(gliomas.KINDS, p=(0.35, 0.30, 0.22, 0.13)))
        strength = float(rng.uniform(0.14, 0.28) if request.stratum == "faint" else rng.uniform(0.3, 1.1))
        seeds.append(gliomas.Seed(kind=kind, centre=centre, radius=radius, strength=strength))
        taken |= parts.ellipsoid(small, centre, (1.0, 1.0, 1.0)) < 1.8 * radius + 8
    return tuple(seeds)


def _depth(edge: Array, radius: float, request: BrainRequest) -> NDArray[np.bool_]:
    if request.stratum == "near skull":
        return np.asarray((edge < -1) & (edge > -6))
    return np.asarray(edge < -min(radius * 0.4, 9))


def _extents(head: Head, tumours: list[gliomas.Tumour], contrast: str) -> list[NDArray[np.bool_]]:
    """Return each tumour's outline, none shared, none empty: a voxel at least marks where it began."""
    taken = np.zeros(head.t1.shape, dtype=bool)
    extents = []
    for tumour in tumours:
        extent = gliomas.extent(head, tumour, contrast) & ~taken
        if not extent.any():
            extent.flat[int(np.argmin(np.where(taken, np.inf, tumour.whole)))] = True
        taken |= extent
        extents.append(extent)
    return extents


def _hollowed(rng: np.random.Generator, head: Head, tumours: list[gliomas.Tumour], *, many: bool) -> Head:
    t1 = mimics.hollow(rng, head, many=many)
    for tumour in tumours:
        t1 = np.where(tumour.whole < 1.15, head.t1, t1)
    return heads.with_t1(head, t1)


def _image(rng: np.random.Generator, head: Head, tumours: list[gliomas.Tumour], bright: Array, contrast: str) -> Array:
    image = _tissue(rng, head, contrast)
    sign = float(rng.uniform(0.2, 0.5)) if contrast in {"FLAIR", "T2"} else -float(rng.uniform(0.02, 0.15))
    image = image + sign * bright + mimics.fluid(rng, head, contrast)
    if contrast == "T1C":
        image = image + float(rng.uniform(0.2, 1.2)) * mimics.vessels(rng, head) * (head.t1 > 0)
    for tumour in tumours:
        image = gliomas.paint(rng, head, image, tumour, contrast)
    image = scanner.acquire(rng, head.like, np.maximum(image, 0))
    return image * (head.brain > 0) if head.stripped else image


def _tissue(rng: np.random.Generator, head: Head, contrast: str) -> Array:
    """Return the head in `contrast`; fat reaches from suppressed to three times white matter, sulci vary in width."""
    levels, _ = SIGNAL[contrast]
    csf, grey, white, fat, muscle = (max(0.02, level + float(rng.normal(0, 0.09))) for level in levels)
    fat *= float(np.exp(rng.uniform(np.log(0.25), np.log(2.6))))
    at_csf, at_grey, at_white = 20 + rng.uniform(-8, 14), 75 + rng.uniform(-7, 7), 108 + rng.uniform(-5, 5)
    inside = np.interp(head.t1, (0, at_csf, at_grey, at_white, 135), (0.02, csf, grey, white, white * 1.06))
    inside = inside * (1 + float(rng.uniform(0, 0.06)) * fields.noise(rng, head.like, 28.0))
    shown = np.interp(head.t1, OUTSIDE_LEVELS, (0.02, muscle, fat)) * mimics.outside(rng, head)
    return np.asarray(head.brain * inside + (1 - head.brain) * (not head.stripped) * shown, dtype=np.float32)
