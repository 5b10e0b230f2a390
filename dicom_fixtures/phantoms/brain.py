"""Head MR phantoms: real anatomy seen through random contrast, with tumours and what resembles them.

Contrast by remapping the grey levels of a real T1 head follows SynthSeg (Billot et al. 2023,
doi 10.1016/j.media.2023.102789), with the anatomy's own texture kept.
"""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from dicom_fixtures.phantoms import parts
from dicom_fixtures.phantoms.parts import Array, Blob, Phantom, Spacing

# Signal of (CSF, grey, white matter, fat, muscle) and of tumour rim and core, as fractions of white matter's brightest.
SIGNAL = {
    "FLAIR": ((0.12, 0.62, 0.50, 0.70, 0.30), (0.98, 0.88)),
    "T2": ((1.00, 0.58, 0.42, 0.65, 0.20), (0.86, 0.92)),
    "T1": ((0.15, 0.50, 0.72, 1.00, 0.40), (0.40, 0.32)),
    "T1C": ((0.15, 0.50, 0.70, 1.00, 0.45), (0.42, 1.00)),
}
# Grey levels of Colin27 and ICBM 152 at the middle of CSF, grey and white matter; fat and muscle outside the brain.
LEVELS = (20.0, 75.0, 110.0)
OUTSIDE_LEVELS = (0.0, 40.0, 200.0)


@dataclass(frozen=True, kw_only=True)
class BrainRequest:
    """What head to make: `lesions` 0 is a normal study, `spacing` (slice, row, column) in mm.

    `randomise` widens contrast, noise, blur, field and adds skull stripping and look-alikes, for training.
    """

    seed: int
    lesions: int = 1
    spacing: Spacing = (3.0, 1.0, 1.0)
    contrasts: tuple[str, ...] = ("FLAIR",)
    lesion_radius_mm: tuple[float, float] = (7.0, 22.0)
    randomise: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class _Head:
    like: sitk.Image
    t1: Array
    brain: Array
    stripped: bool


def brain(request: BrainRequest) -> Phantom:
    """Return a head with `request.lesions` tumours; the mask covers core, rim and bright oedema.

    Raises:
        KeyError: a contrast is not one of `SIGNAL`.
        ValueError: the lesions do not fit into the brain.
    """
    rng = parts.generator(request.seed)
    head = _head(rng, request)
    blobs, mask = _tumours(rng, head, request)
    lookalikes = _lookalikes(rng, head, mask) if request.randomise or rng.random() < 0.5 else np.zeros_like(head.t1)
    age = float(rng.uniform(25, 85))
    images = {
        name: _scan(rng, head, _render(rng, head, name, (blobs, lookalikes), request), request)
        for name in request.contrasts
    }
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
    stripped = request.randomise and rng.random() < 0.35
    like = parts.grid((186.0, 232.0, 192.0), request.spacing)
    transform = parts.deformation(rng, like, 1.0)
    if stripped and rng.random() < 0.6:
        t1 = parts.warp(parts.anatomy("mni152_t1"), like, transform)
        return _Head(like=like, t1=t1 * 0.55, brain=(t1 > 12).astype(np.float32), stripped=True)
    t1 = parts.warp(parts.anatomy("colin27_t1"), like, transform)
    inside = parts.warp(parts.anatomy("colin27_brain"), like, transform)
    return _Head(like=like, t1=t1 * inside if stripped else t1, brain=inside, stripped=stripped)


def _tumours(
    rng: np.random.Generator, head: _Head, request: BrainRequest
) -> tuple[tuple[Blob, ...], NDArray[np.bool_]]:
    mask = np.zeros(head.t1.shape, dtype=bool)
    blobs: list[Blob] = []
    tissue = sitk.GetImageFromArray((head.brain > 0.5).astype(np.uint8))
    tissue.CopyInformation(head.like)
    depth = sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(tissue, True, False, True))
    for _ in range(request.lesions):
        radius = float(np.exp(rng.uniform(*np.log(request.lesion_radius_mm))))
        room = (depth > min(radius * 0.5, 12)) & (head.t1 > 55) & ~_near(mask, head.like, radius)
        centre = parts.pick_centre(rng, room, head.like)
        distance = parts.irregular(rng, head.like, centre, radius)
        distance = np.where(head.brain > 0.5, distance, np.maximum(distance, 1.5)).astype(np.float32)
        blobs.append(
            Blob(
                kind=str(rng.choice(["solid", "ring", "diffuse"])),
                distance=distance,
                strength=float(rng.uniform(0.45, 1.1) if request.randomise else rng.uniform(0.7, 1.0)),
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
    request: BrainRequest,
) -> Array:
    blobs, lookalikes = extras
    tissue, (rim, core) = SIGNAL[contrast]
    spread = 0.10 if request.randomise else 0.03
    csf, grey, white, fat, muscle = (max(0.02, s + float(rng.normal(0, spread))) for s in tissue)
    inside = np.interp(head.t1, (0.0, *LEVELS, 135.0), (0.02, csf, grey, white, white * 1.08))
    outside = np.interp(head.t1, OUTSIDE_LEVELS, (0.02, muscle, fat))
    shown = (1 - head.brain) * (0.0 if head.stripped else 1.0)
    image: Array = np.asarray(head.brain * inside + shown * outside, dtype=np.float32)
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


def _scan(rng: np.random.Generator, head: _Head, image: Array, request: BrainRequest) -> Array:
    """Add what a scanner adds: coil shading, blur, Rician noise (Gudbjartsson 1995), gamma, scale."""
    wide = request.randomise
    shading = np.exp(float(rng.uniform(0.03, 0.22 if wide else 0.10)) * parts.smooth_noise(rng, head.like, 110.0))
    image = image * shading
    if wide and rng.random() < 0.5:
        blurred = sitk.GetImageFromArray(image)
        blurred.CopyInformation(head.like)
        sigma = [float(rng.uniform(0.3, 1.2)) for _ in range(2)] + [float(rng.uniform(0.3, 2.0))]
        image = sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(blurred, sigma))
    sigma_noise = float(rng.uniform(0.01, 0.06 if wide else 0.025))
    real, imaginary = rng.standard_normal((2, *image.shape), dtype=np.float32) * sigma_noise
    image = np.hypot(np.maximum(image, 0) + real, imaginary)
    if head.stripped:
        image = image * (head.brain > 0.5)
    gamma = float(np.exp(rng.normal(0, 0.15 if wide else 0.04)))
    return np.asarray(1000 * (image / max(float(image.max()), 1e-3)) ** gamma, dtype=np.float32)
