"""Bodies for training: anatomy, normal uptake, tumours and cameras as random as real ones (`randomise`)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_fixtures.phantoms import bodies, fields, parts, uptake
from dicom_fixtures.phantoms.bodies import Body
from dicom_fixtures.phantoms.parts import Array, Phantom
from dicom_fixtures.phantoms.request import PetCtRequest

RADII_MM = (5.0, 14.0)
LARGE_RADII_MM = (14.0, 55.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Tumour:
    """`distance` is 1 on the surface; SUV and HU fill it; `alive` 0..1 is how much of its uptake a voxel has."""

    distance: Array
    suv: float
    alive: Array
    density: Array


def wild_petct(request: PetCtRequest) -> Phantom:
    """Return PET (SUVbw, g/ml) and CT (HU) of a training body with `request.lesions` tumours.

    Raises:
        ValueError: the lesions do not fit into the body.
    """
    rng = parts.generator(request.seed)
    body = bodies.body(rng, request.spacing, "trunk" if request.stratum == "near bladder" else "")
    suv = _normal(rng, body, many=request.stratum == "look-alikes")
    ct = body.ct
    extents: list[NDArray[np.bool_]] = []
    taken = np.zeros(ct.shape, dtype=bool)
    for _ in range(request.lesions):
        tumour = _tumour(rng, body, taken, request)
        cover = parts.within(tumour.distance, 1.0, 0.04)
        suv = suv + cover * (np.maximum(tumour.suv * tumour.alive, 0.25 * suv) - suv)
        ct = ct + cover * np.where(ct < 200, tumour.density - ct, 0)
        extents.append((tumour.distance < 1) & ~taken)
        taken |= extents[-1]
    pet = _camera(rng, body, suv)
    ct = _scanned(rng, body, ct)
    age = float(rng.uniform(18, 88))
    lesions = tuple(parts.measure(extent, body.like, "tumour", pet) for extent in extents)
    hottest = max((lesion.suv_max or 0 for lesion in lesions), default=0)
    window = _window(rng, body, taken)
    start = body.like.TransformIndexToPhysicalPoint([int(part.start) for part in window[::-1]])
    return Phantom(
        images={"PET": np.ascontiguousarray(pet[window]), "CT": np.ascontiguousarray(ct[window])},
        mask=np.ascontiguousarray(taken[window]).astype(np.uint8),
        spacing=request.spacing,
        origin=start,
        lesions=lesions,
        log_hazard=parts.log_hazard(lesions, age, hottest),
        age_years=age,
        sex="F" if rng.random() < 0.5 else "M",
        weight_kg=float(np.clip(rng.normal(75, 14), 42, 130)),
    )


def _normal(rng: np.random.Generator, body: Body, *, many: bool) -> Array:
    """Return normal SUV with what is normal in some: muscle, brown fat, marrow, bowel, spots, a hot drop on skin."""
    like, ct, suv = body.like, body.ct, body.suv
    soft = body.inside & (ct > -60) & (ct < 150)
    often = 0.9 if many else 0.35
    if rng.random() < often:
        suv = suv + uptake.muscle(rng, like, ct, 3.0)
    if rng.random() < often * 0.6:
        suv = suv + uptake.brown_fat(rng, like, ct, 4.0) * body.inside
    if rng.random() < 0.5:
        suv = suv + uptake.marrow(rng, ct, 1.2)
    if body.kind == "trunk" and rng.random() < 0.7:
        suv = suv + uptake.gut(rng, like, soft, 7.0 if many else 4.0)
    suv = suv + uptake.spots(rng, like, soft, (14, 3.0) if many else (5, 1.8))
    if rng.random() < 0.1:
        skin = body.inside & (fields.signed_distance(body.inside, like) > -5)
        suv = suv + uptake.spots(rng, like, skin, (2, 6.0))
    return np.asarray(suv, dtype=np.float32)


def _tumour(rng: np.random.Generator, body: Body, taken: NDArray[np.bool_], request: PetCtRequest) -> _Tumour:
    like = body.like
    radius = float(np.exp(rng.uniform(*np.log(request.radii_mm(LARGE_RADII_MM if rng.random() < 0.6 else RADII_MM)))))
    depth = -fields.signed_distance(body.inside, like)
    radius = min(radius, max(float(depth.max()) * 0.9, 5.0))
    room = body.inside & (body.ct > -150) & (body.ct < 200) & ~body.hot & ~taken & (depth > min(radius * 0.6, 25))
    if request.stratum == "near bladder" and body.bladder is not None:
        room &= (body.bladder > 1.1) & (body.bladder < 1.9)
    centre = parts.pick_centre(rng, room if room.any() else body.inside & ~taken, like)
    stretch = float(rng.uniform(1.0, 2.0)) if body.kind == "limb" else 1.0
    radii = (radius * float(rng.uniform(0.8, 1.2)) * stretch, *(radius * rng.uniform(0.7, 1.2, 2)))
    noise = fields.noise(rng, like, max(radius * float(rng.uniform(0.5, 1.0)), 7.0))
    distance = parts.ellipsoid(like, centre, (radii[0], float(radii[1]), float(radii[2])))
    distance = distance + float(rng.uniform(0.05, 0.22)) * noise * np.minimum(distance, 1)
    # Cortical bone and what is already tumour stop it; at least the voxel at its centre is tumour.
    distance = np.where(body.inside & (body.ct < 500) & ~taken, distance, np.maximum(distance, 1.5))
    distance.flat[int(np.argmin(np.where(body.inside & ~taken, distance, np.inf)))] = 0.0
    low, high = (1.3, 2.3) if request.stratum == "faint" else (2.0, 22.0)
    return _Tumour(
        distance=distance.astype(np.float32),
        suv=float(np.exp(rng.uniform(np.log(low), np.log(high)))),
        alive=_alive(rng, body, distance, radius),
        density=(float(rng.uniform(5, 65)) + 10 * fields.noise(rng, like, 12.0)).astype(np.float32),
    )


def _alive(rng: np.random.Generator, body: Body, distance: Array, radius: float) -> Array:
    """Return how a tumour's uptake varies: evenly, a cold centre, or cold parts, as large sarcomas have."""
    rough = np.clip(1 + float(rng.uniform(0.05, 0.3)) * fields.noise(rng, body.like, 12.0), 0.3, None)
    pattern = str(rng.choice(("even", "centre", "parts"), p=(0.6, 0.2, 0.2) if radius < 16 else (0.25, 0.3, 0.45)))
    low = float(rng.uniform(0.08, 0.5))
    if pattern == "centre":
        rough = rough * (1 - (1 - low) * parts.within(distance, float(rng.uniform(0.35, 0.8)), 0.07))
    elif pattern == "parts":
        field = fields.noise(rng, body.like, max(radius * float(rng.uniform(0.35, 0.9)), 8.0))
        cold = 0.5 - 0.5 * np.tanh((field - float(rng.uniform(-0.9, 0.5))) / 0.4)
        rough = rough * (1 - (1 - low) * cold)
    return np.asarray(rough, dtype=np.float32)


def _camera(rng: np.random.Generator, body: Body, suv: Array) -> Array:
    """Return the PET as reconstructed: point spread 4 to 9 mm FWHM, thick slices, noise that grows with uptake."""
    fwhm = float(rng.uniform(4.0, 9.0))
    sigmas = [fwhm / 2.355 / step for step in body.like.GetSpacing()[::-1]]
    blurs = [fields.gaussian(n, sigma) for n, sigma in zip(suv.shape, sigmas, strict=True)]
    blurred = np.maximum(fields.along(suv, *blurs), 0)
    level = float(np.exp(rng.uniform(np.log(0.02), np.log(0.2))))
    grain = fields.noise(rng, body.like, max(fwhm * float(rng.uniform(0.7, 1.4)), body.like.GetSpacing()[0]))
    pet = np.maximum(blurred + level * np.sqrt(np.maximum(blurred, 0.02)) * grain, 0)
    return np.asarray(pet * float(rng.uniform(0.9, 1.1)), dtype=np.float32)


def _scanned(rng: np.random.Generator, body: Body, ct: Array) -> Array:
    """Return the CT with noise, and rarely shifted by a breath against the PET."""
    ct = ct + rng.standard_normal(ct.shape, dtype=np.float32) * float(rng.uniform(3, 25))
    if rng.random() < 0.15 and body.kind in {"trunk", "chest"}:
        ct = np.roll(ct, int(rng.integers(-1, 2)), axis=0)
    if rng.random() < 0.4:
        couch = parts.axes_mm(body.like)[1] > float(rng.uniform(95, 130))
        ct = np.where(couch & ~body.inside & (rng.random() < 0.5), -700.0, ct)
    return np.asarray(np.clip(ct, -1024, 3000), dtype=np.float32)


def _window(rng: np.random.Generator, body: Body, mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Return the whole body or, of half, a box: round the tumours with 25 to 110 mm to spare, or anywhere."""
    window = []
    part = rng.random() < 0.5
    for axis, (count, step) in enumerate(zip(mask.shape, body.like.GetSpacing()[::-1], strict=True)):
        marked = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        middle = int(rng.integers(count // 3, count - count // 3 + 1))
        first, last = (int(marked[0]), int(marked[-1])) if marked.size else (middle, middle)
        spare = [int(float(rng.uniform(25 if mask.any() else 60, 110)) / step) for _ in range(2)]
        window.append(slice(max(first - spare[0], 0), min(last + spare[1], count - 1) + 1) if part else slice(0, count))
    return tuple(window)
