"""What a scanner adds to a head, for training: coils, resolution, slice thickness, noise, scale."""

import numpy as np
import SimpleITK as sitk

from dicom_fixtures.phantoms import fields, parts
from dicom_fixtures.phantoms.parts import Array


def acquire(rng: np.random.Generator, like: sitk.Image, image: Array) -> Array:
    """Return the image as scanned; noise is Rician (Gudbjartsson and Patz 1995, doi 10.1002/mrm.1910340618)."""
    image = image * _coil(rng, like)
    level = float(np.exp(rng.uniform(np.log(0.004), np.log(0.06))))
    resolution = _resolution(rng, like)
    early = rng.random() < 0.6
    if not early:
        image = fields.along(image, *resolution)
    real, imaginary = rng.standard_normal((2, *image.shape), dtype=np.float32) * np.float32(level)
    image = np.hypot(np.maximum(image, 0) + real, imaginary)
    if early:
        image = fields.along(image, *resolution)
    top = float(np.quantile(image[::4, ::3, ::3], rng.uniform(0.98, 1.0))) if rng.random() < 0.3 else image.max()
    gamma = float(np.exp(rng.normal(0, 0.16)))
    scaled = np.clip(image / max(float(top), 1e-3), 0, 1) ** np.float32(gamma)
    if rng.random() < 0.15:
        scaled = np.round(scaled * 255) / 255
    return np.asarray(1000 * scaled, dtype=np.float32)


def _coil(rng: np.random.Generator, like: sitk.Image) -> Array:
    """Return smooth shading and, of surface coils, the rim brighter than the middle."""
    shading = float(rng.uniform(0.02, 0.25)) * fields.noise(rng, like, 100.0)
    if rng.random() < 0.4:
        radius = parts.ellipsoid(like, (0.0, 0.0, 0.0), (95.0, 110.0, 90.0))
        shading = shading + float(rng.uniform(0.1, 0.6)) * (radius**2 - 0.5)
    return np.exp(np.clip(shading, -1.5, 1.5))


def _resolution(rng: np.random.Generator, like: sitk.Image) -> tuple[Array | None, Array | None, Array | None]:
    """Return the blur of each axis: in-plane softness, and thick slices with gaps."""
    columns, rows, slices = like.GetSize()
    x_mm, y_mm, z_mm = like.GetSpacing()
    across: Array | None = None
    down: Array | None = None
    if rng.random() < 0.6:
        sigma = float(rng.uniform(0.3, 1.1))
        across = fields.gaussian(columns, sigma / x_mm)
        down = fields.gaussian(rows, sigma * float(rng.uniform(0.8, 1.3)) / y_mm)
    thick: Array | None = None
    if rng.random() < 0.45:
        width = float(rng.uniform(z_mm, 6.5))
        thick = fields.slab(slices, width / z_mm, float(rng.choice((0.0, 0.0, 0.1, 0.3))) * width / z_mm)
    return thick, down, across
