"""Head MR phantoms: real anatomy seen through random contrast, with tumours and what resembles them.

Contrast by remapping the grey levels of a real T1 head follows SynthSeg (Billot et al. 2023,
doi 10.1016/j.media.2023.102789), with the anatomy's own texture kept.
"""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from dicom_fixtures.phantoms import parts, shifts
from dicom_fixtures.phantoms.parts import Array, Blob, Phantom
from dicom_fixtures.phantoms.request import PLAIN_HEAD_RADII_MM, BrainRequest
from dicom_fixtures.phantoms.tissue import LEVELS, OUTSIDE_LEVELS, SIGNAL
from dicom_fixtures.phantoms.wild import wild_brain

HEAD_MM = (186.0, 232.0, 192.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Head:
    like: sitk.Image
    t1: Array
    brain: Array


def brain(request: BrainRequest) -> Phantom:
    """Return a head with `request.lesions` tumours; the mask covers core, rim and bright oedema.

    Raises:
        KeyError: a contrast is not one of `SIGNAL`.
        ValueError: the lesions do not fit into the brain.
    """
    if request.randomise:
        return wild_brain(request)
    rng = parts.generator(request.seed)
    head = _head(rng, request)
    blobs, mask = _tumours(rng, head, request)
    lookalikes = _lookalikes(rng, head, mask) if rng.random() < 0.5 else np.zeros_like(head.t1)
    # What is beyond a plain head draws from a stream of its own, so that plain heads stay as they are.
    strange = shifts.generator(request.seed)
    if request.stratum == "look-alikes":
        lookalikes = np.maximum(lookalikes, shifts.lookalikes(strange, head.like, (head.t1, head.brain), mask))
    if request.shifted:
        head, lookalikes = _shift(strange, head, (blobs, lookalikes), mask)
    age = float(rng.uniform(25, 85))
    images = {name: _scan(rng, head, _render(rng, head, name, (blobs, lookalikes))) for name in request.contrasts}
    if request.shifted:
        images = {name: shifts.artefact(strange, image) for name, image in images.items()}
    lesions = tuple(parts.measure(blob.distance < 1, head.like, blob.kind) for blob in blobs)
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


def _head(rng: np.random.Generator, request: BrainRequest) -> _Head:
    like = parts.grid(HEAD_MM, request.spacing)
    transform = parts.deformation(rng, like, 1.0)
    t1 = parts.warp(parts.anatomy("colin27_t1"), like, transform)
    return _Head(like=like, t1=t1, brain=parts.warp(parts.anatomy("colin27_brain"), like, transform))


def _shift(
    rng: np.random.Generator, head: _Head, extras: tuple[tuple[Blob, ...], Array], mask: NDArray[np.bool_]
) -> tuple[_Head, Array]:
    blobs, lookalikes = extras
    pressed = shifts.push(rng, head.like, blobs)
    t1, inside, lookalikes = (shifts.move(array, head.like, pressed) for array in (head.t1, head.brain, lookalikes))
    bright = np.maximum(lookalikes * ~mask, shifts.vessels(rng, head.like, inside, mask))
    return _Head(like=head.like, t1=t1, brain=inside), bright.astype(np.float32)


def _tumours(
    rng: np.random.Generator, head: _Head, request: BrainRequest
) -> tuple[tuple[Blob, ...], NDArray[np.bool_]]:
    mask = np.zeros(head.t1.shape, dtype=bool)
    blobs: list[Blob] = []
    tissue = sitk.GetImageFromArray((head.brain > 0.5).astype(np.uint8))
    tissue.CopyInformation(head.like)
    depth = sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(tissue, True, False, True))
    for _ in range(request.lesions):
        radius = float(np.exp(rng.uniform(*np.log(request.radii_mm(PLAIN_HEAD_RADII_MM)))))
        deep = (depth > 1) & (depth < 5) if request.stratum == "near skull" else depth > min(radius * 0.5, 12)
        room = deep & (head.t1 > 55) & ~_near(mask, head.like, radius)
        centre = parts.pick_centre(rng, room, head.like)
        distance = parts.irregular(rng, head.like, centre, radius)
        distance = np.where(head.brain > 0.5, distance, np.maximum(distance, 1.5)).astype(np.float32)
        blobs.append(
            Blob(
                kind=str(rng.choice(["solid", "ring", "diffuse"])),
                distance=distance,
                strength=float(rng.uniform(0.7, 1.0)) * (0.35 if request.stratum == "faint" else 1.0),
                texture=parts.smooth_noise(rng, head.like, 7.0),
            )
        )
        mask |= distance < 1
    return tuple(blobs), mask


def _near(mask: NDArray[np.bool_], like: sitk.Image, margin_mm: float) -> NDArray[np.bool_]:
    if not mask.any():
        return mask
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.CopyInformation(like)
    return np.asarray(
        sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(image, False, False, True)) < margin_mm * 1.4 + 6
    )


def _lookalikes(rng: np.random.Generator, head: _Head, mask: NDArray[np.bool_]) -> Array:
    """Return 0..1 brightness of small white-matter spots and ventricular caps, never inside a tumour."""
    bright = np.zeros_like(head.t1)
    white = (head.t1 > 95) & (head.brain > 0.9) & ~mask
    for _ in range(int(rng.integers(0, 9))):
        if not white.any():
            break
        radius = float(rng.uniform(1.2, 3.2))
        spot = parts.ellipsoid(head.like, parts.pick_centre(rng, white, head.like), (radius + 0.8, radius, radius))
        bright = np.maximum(bright, np.clip(1.5 - spot, 0, 1) * float(rng.uniform(0.4, 1.0)))
    if rng.random() < 0.5:
        fluid = sitk.GetImageFromArray(((head.t1 < 40) & (head.brain > 0.9)).astype(np.uint8))
        fluid.CopyInformation(head.like)
        deep = sitk.BinaryOpeningByReconstruction(fluid, [1, 3, 3])
        away = sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(deep, False, False, True))
        rim = np.exp(-np.maximum(away, 0) / float(rng.uniform(1.0, 3.0))) * (head.t1 > 70)
        bright = np.maximum(bright, rim * float(rng.uniform(0.2, 0.7)))
    return np.asarray(bright * ~mask, dtype=np.float32)


def _render(
    rng: np.random.Generator,
    head: _Head,
    contrast: str,
    extras: tuple[tuple[Blob, ...], Array],
) -> Array:
    blobs, lookalikes = extras
    tissue, (rim, core) = SIGNAL[contrast]
    csf, grey, white, fat, muscle = (max(0.02, s + float(rng.normal(0, 0.03))) for s in tissue)
    inside = np.interp(head.t1, (0.0, *LEVELS, 135.0), (0.02, csf, grey, white, white * 1.08))
    outside = np.interp(head.t1, OUTSIDE_LEVELS, (0.02, muscle, fat))
    image: Array = np.asarray(head.brain * inside + (1 - head.brain) * outside, dtype=np.float32)
    bright = 0.35 if contrast in ("FLAIR", "T2") else -0.08
    image = image + np.float32(bright) * lookalikes
    for blob in blobs:
        image = _blend(rng, image, blob, (rim, core))
    return np.asarray(np.maximum(image, 0), dtype=np.float32)


def _blend(rng: np.random.Generator, image: Array, blob: Blob, signal: tuple[float, float]) -> Array:
    rim, core = signal
    edge = 0.10 if blob.kind == "diffuse" else 0.05
    cover = parts.within(blob.distance, 0.97, edge / 2)
    heart = parts.within(blob.distance, float(rng.uniform(0.45, 0.7)), 0.08)
    if blob.kind == "ring":
        core = 0.55 * core + 0.1
    value = rim + (core - rim) * heart + 0.05 * blob.texture
    return np.asarray(image + cover * blob.strength * (value - image), dtype=np.float32)


def _scan(rng: np.random.Generator, head: _Head, image: Array) -> Array:
    """Add what a scanner adds: coil shading, Rician noise (Gudbjartsson 1995), gamma, scale."""
    image = image * np.exp(float(rng.uniform(0.03, 0.10)) * parts.smooth_noise(rng, head.like, 110.0))
    sigma_noise = float(rng.uniform(0.01, 0.025))
    real, imaginary = rng.standard_normal((2, *image.shape), dtype=np.float32) * sigma_noise
    image = np.hypot(np.maximum(image, 0) + real, imaginary)
    gamma = float(np.exp(rng.normal(0, 0.04)))
    return np.asarray(1000 * (image / max(float(image.max()), 1e-3)) ** gamma, dtype=np.float32)
