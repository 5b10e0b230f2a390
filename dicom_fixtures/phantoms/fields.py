"""Fast smooth fields: noise, upsampling and blur as one small matrix per axis.

A separable field on a large grid costs three matrix products this way, a tenth of a spline resampling.
"""

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from dicom_fixtures.phantoms import parts
from dicom_fixtures.phantoms.parts import Array, Spacing


def along(volume: Array, *matrices: Array | None) -> Array:
    """Return `volume` (slices, rows, columns) with each axis multiplied by its matrix; None leaves an axis."""
    slices, rows, columns = matrices
    # Strided or mixed-type operands would leave the fast matrix product.
    volume = np.ascontiguousarray(volume, dtype=np.float32)
    if columns is not None:
        volume = volume @ np.ascontiguousarray(columns.T)
    if rows is not None:
        volume = rows @ volume
    if slices is not None:
        volume = np.tensordot(slices, volume, 1)
    return np.asarray(volume, dtype=np.float32)


def noise(rng: np.random.Generator, like: sitk.Image, scale_mm: float) -> Array:
    """Return cubic B-spline noise of unit standard deviation that varies over about `scale_mm`."""
    size, spacing = like.GetSize()[::-1], like.GetSpacing()[::-1]
    bases = [_spline(n, step / max(scale_mm, step)) for n, step in zip(size, spacing, strict=True)]
    coarse = rng.standard_normal([basis.shape[1] for basis in bases]).astype(np.float32)
    values = along(coarse, *bases)
    return np.asarray(values / (values.std() + 1e-6), dtype=np.float32)


def _spline(count: int, step: float) -> Array:
    """Return the uniform cubic B-spline basis (count, knots) at positions 0, step, 2 step ..."""
    places = np.arange(count) * step + 1
    away = np.abs(places[:, None] - np.arange(int(places[-1]) + 3)[None, :])
    inner, outer = 2 / 3 - away**2 + away**3 / 2, (2 - away) ** 3 / 6
    return np.where(away < 1, inner, np.where(away < 2, outer, 0)).astype(np.float32)


def linear(target: int, source: int) -> Array:
    """Return the matrix (target, source) of linear interpolation between grids of one centre and extent."""
    places = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    return np.maximum(1 - np.abs(places[:, None] - np.arange(source)[None, :]), 0).astype(np.float32)


def upsample(volume: Array, like: sitk.Image) -> Array:
    """Return `volume`, of one extent with `like`, on the finer grid of `like`."""
    return along(volume, *[linear(n, m) for n, m in zip(like.GetSize()[::-1], volume.shape, strict=True)])


def gaussian(count: int, sigma: float) -> Array:
    """Return the matrix that blurs an axis of `count` by `sigma` pixels; each row sums to 1."""
    away = np.arange(count)[:, None] - np.arange(count)[None, :]
    weights = np.exp(-0.5 * (away / max(sigma, 1e-3)) ** 2)
    return np.asarray(weights / weights.sum(1, keepdims=True), dtype=np.float32)


def slab(count: int, thick: float, gap: float) -> Array:
    """Return the matrix that takes slices `thick` pixels wide every `thick + gap` and interpolates back."""
    centres = np.arange(0, count - 1 + thick + gap, thick + gap)
    overlap = np.clip(thick / 2 + 0.5 - np.abs(np.arange(count)[None, :] - centres[:, None]), 0, 1)
    taken = overlap / np.maximum(overlap.sum(1, keepdims=True), 1e-6)
    taken[overlap.sum(1) == 0] = taken[np.flatnonzero(overlap.sum(1))[-1]]
    places = np.arange(count)[:, None] / (thick + gap)
    back = np.maximum(1 - np.abs(places - np.arange(len(centres))[None, :]), 0)
    return np.asarray(back @ taken, dtype=np.float32)


def coarse(like: sitk.Image, spacing: Spacing) -> sitk.Image:
    """Return an empty image of exactly the extent of `like`, its spacing near `spacing` (slice, row, column)."""
    extent = np.array(like.GetSize()) * np.array(like.GetSpacing())
    size = np.maximum(np.round(extent / np.array(spacing[::-1])), 2).astype(int)
    image = sitk.Image(size.tolist(), sitk.sitkFloat32)
    image.SetSpacing((extent / size).tolist())
    start = np.array(like.GetOrigin()) - np.array(like.GetSpacing()) / 2
    image.SetOrigin((start + extent / size / 2).tolist())
    return image


def see(image: sitk.Image, like: sitk.Image, displacement: Array, outside: float = 0.0) -> Array:
    """Return `image` on the grid of `like`, each point p taken from p + `displacement` (z, y, x, xyz in mm)."""
    field = sitk.GetImageFromArray(displacement, isVector=True)
    field.CopyInformation(like)
    geometry = (like.GetSize(), like.GetOrigin(), like.GetSpacing(), like.GetDirection())
    return np.asarray(sitk.GetArrayFromImage(sitk.Warp(image, field, sitk.sitkLinear, *geometry, outside)))


def spread(displacement: Array, like: sitk.Image) -> Array:
    """Return a coarse displacement (z, y, x, xyz) of one extent with `like` on its grid."""
    return np.stack([upsample(displacement[..., axis], like) for axis in range(3)], axis=-1)


def signed_distance(mask: NDArray[np.bool_], like: sitk.Image) -> Array:
    """Return the distance in mm to the surface of `mask`, positive outside."""
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.CopyInformation(like)
    return np.asarray(sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(image, False, False, True)))


def spot(like: sitk.Image, centre: Spacing, radii: Spacing) -> tuple[tuple[slice, ...], Array]:
    """Return the window of the grid round `centre` and the distance there in units of `radii`, all (z, y, x) in mm.

    The window reaches 1.6 radii, so that many small spots cost little.
    """
    window, axes = [], []
    for axis, c, r in zip(parts.axes_mm(like), centre, radii, strict=True):
        away = (axis.ravel() - c) / r
        near = np.flatnonzero(np.abs(away) < 1.6)
        first, last = (int(near[0]), int(near[-1]) + 1) if near.size else (0, 0)
        window.append(slice(first, last))
        axes.append(away[first:last])
    z, y, x = axes
    distance = np.sqrt(z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2)
    return tuple(window), distance.astype(np.float32)
