"""What all phantoms share: random deformation of real anatomy, smooth noise, lesion shapes."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

Array = NDArray[np.float32]
Spacing = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Lesion:
    """One lesion's truth; `centre_mm` in LPS patient coordinates (x, y, z), SUV in g/ml."""

    centre_mm: tuple[float, float, float]
    volume_ml: float
    longest_mm: float
    kind: str
    suv_max: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Phantom:
    """A study as arrays of shape (slices, rows, columns), slices ascending toward the head.

    Axes are the patient's: columns toward left, rows toward posterior. `spacing` is (slice, row, column) in mm,
    `origin` the LPS position (x, y, z) of the first voxel. PET is SUVbw in g/ml, CT is HU, MR is arbitrary.
    `log_hazard` is the known log hazard ratio that follow-up is drawn from.
    """

    images: Mapping[str, Array]
    mask: NDArray[np.uint8]
    spacing: Spacing
    origin: tuple[float, float, float]
    lesions: tuple[Lesion, ...]
    log_hazard: float
    age_years: float
    sex: str
    weight_kg: float


@dataclass(frozen=True, kw_only=True)
class Blob:
    """A lesion on its way in: `distance` is 0 at the centre, 1 on its surface."""

    kind: str
    distance: Array
    strength: float
    texture: Array


def generator(seed: int) -> np.random.Generator:
    """Return the generator that `seed` always gives."""
    return np.random.Generator(np.random.Philox(seed))


@cache
def anatomy(name: str) -> sitk.Image:
    """Return a shipped anatomy as a float image in LPS, centred on the origin."""
    with as_file(files("dicom_fixtures") / "anatomy" / f"{name}.nii.gz") as path:
        image = sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkFloat32)
    extent = [(n - 1) * s for n, s in zip(image.GetSize(), image.GetSpacing(), strict=True)]
    image.SetOrigin([-length / 2 for length in extent])
    image.SetDirection(np.eye(3).ravel().tolist())
    return image


def grid(extent_mm: Spacing, spacing: Spacing) -> sitk.Image:
    """Return an empty image of `extent_mm` (slice, row, column) centred on the origin."""
    size = [max(1, round(length / step)) for length, step in zip(extent_mm, spacing, strict=True)][::-1]
    image = sitk.Image(size, sitk.sitkFloat32)
    image.SetSpacing(spacing[::-1])
    image.SetOrigin([-(n - 1) * s / 2 for n, s in zip(size, spacing[::-1], strict=True)])
    return image


def smooth_noise(rng: np.random.Generator, like: sitk.Image, scale_mm: float) -> Array:
    """Return noise of unit standard deviation that varies over about `scale_mm`."""
    extent = np.array(like.GetSize()) * np.array(like.GetSpacing())
    coarse = np.maximum(np.ceil(extent / scale_mm).astype(int) + 3, 4)
    noise = sitk.GetImageFromArray(rng.standard_normal(coarse[::-1]).astype(np.float32))
    noise.SetSpacing((extent / (coarse - 3)).tolist())
    noise.SetOrigin((np.array(like.GetOrigin()) - np.array(noise.GetSpacing())).tolist())
    values = sitk.GetArrayFromImage(sitk.Resample(noise, like, sitk.Transform(), sitk.sitkBSpline))
    return np.asarray(values / (values.std() + 1e-6), dtype=np.float32)


def deformation(rng: np.random.Generator, like: sitk.Image, strength: float) -> sitk.Transform:
    """Return a random affine map with a smooth elastic part.

    Rotation up to 9 degrees per axis, scale 0.9 to 1.1, elastic displacement about 4 mm, all times `strength`.
    """
    affine = sitk.AffineTransform(3)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        affine.Rotate(first, second, float(rng.uniform(-0.16, 0.16)) * strength)
    affine.Scale([float(1 + rng.uniform(-0.1, 0.1) * strength) for _ in range(3)])
    affine.Translate([float(rng.uniform(-5, 5)) * strength for _ in range(3)])
    elastic = sitk.BSplineTransformInitializer(like, [4, 4, 4])
    count = len(elastic.GetParameters())
    elastic.SetParameters((rng.standard_normal(count) * 4.0 * strength).tolist())
    # Sampling the spline once into a field makes the several resamplings that follow cheap.
    coarse = grid((like.GetSize()[2] * like.GetSpacing()[2],) * 3, (8.0, 8.0, 8.0))
    field = sitk.TransformToDisplacementField(
        elastic, sitk.sitkVectorFloat64, coarse.GetSize(), coarse.GetOrigin(), coarse.GetSpacing()
    )
    return sitk.CompositeTransform([affine, sitk.DisplacementFieldTransform(field)])


def warp(image: sitk.Image, like: sitk.Image, transform: sitk.Transform, outside: float = 0.0) -> Array:
    """Return `image` seen through `transform` on the grid of `like`."""
    warped = sitk.Resample(image, like, transform, sitk.sitkLinear, outside)
    return np.asarray(sitk.GetArrayFromImage(warped), dtype=np.float32)


def axes_mm(like: sitk.Image) -> tuple[Array, Array, Array]:
    """Return broadcastable patient coordinates (z, y, x) of the grid's voxels in mm."""
    coordinates = [
        like.GetOrigin()[axis] + np.arange(like.GetSize()[axis], dtype=np.float32) * like.GetSpacing()[axis]
        for axis in (2, 1, 0)
    ]
    return coordinates[0][:, None, None], coordinates[1][None, :, None], coordinates[2][None, None, :]


def ellipsoid(like: sitk.Image, centre: tuple[float, float, float], radii: tuple[float, float, float]) -> Array:
    """Return the distance to `centre` in units of `radii`, both (z, y, x) in mm."""
    parts = [((axis - c) / r) ** 2 for axis, c, r in zip(axes_mm(like), centre, radii, strict=True)]
    return np.asarray(np.sqrt(parts[0] + parts[1] + parts[2]), dtype=np.float32)


def irregular(rng: np.random.Generator, like: sitk.Image, centre: tuple[float, float, float], radius: float) -> Array:
    """Return the distance field of an irregular blob of about `radius` mm round `centre` (z, y, x)."""
    radii = tuple(float(radius * rng.uniform(0.75, 1.3)) for _ in range(3))
    distance = ellipsoid(like, centre, (radii[0], radii[1], radii[2]))
    noise = smooth_noise(rng, like, max(radius * 0.9, 6.0))
    return np.asarray(distance + 0.16 * noise * np.minimum(distance, 1.0), dtype=np.float32)


def within(distance: Array, edge: float, softness: float) -> Array:
    """Return 1 inside `edge`, 0 outside, a logistic step of width `softness` between."""
    return np.asarray(0.5 - 0.5 * np.tanh((distance - edge) / (2 * softness)), dtype=np.float32)


def pick_centre(rng: np.random.Generator, allowed: NDArray[np.bool_], like: sitk.Image) -> tuple[float, float, float]:
    """Return the coordinates (z, y, x) in mm of a random allowed voxel.

    Raises:
        ValueError: no voxel is allowed.
    """
    candidates = np.flatnonzero(allowed)
    if candidates.size == 0:
        raise ValueError("no room for a lesion: the allowed region is empty; ask for fewer or smaller lesions")
    index = np.unravel_index(int(rng.choice(candidates)), allowed.shape)
    point = like.TransformIndexToPhysicalPoint([int(i) for i in index[::-1]])
    return point[2], point[1], point[0]


def measure(mask: NDArray[np.bool_], like: sitk.Image, kind: str, suv: Array | None = None) -> Lesion:
    """Return the truth of the lesion that `mask` covers."""
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.CopyInformation(like)
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.ComputeFeretDiameterOn()
    shape.Execute(image)
    x, y, z = shape.GetCentroid(1)
    return Lesion(
        centre_mm=(x, y, z),
        volume_ml=shape.GetPhysicalSize(1) / 1000,
        longest_mm=shape.GetFeretDiameter(1),
        kind=kind,
        suv_max=None if suv is None else float(suv[mask].max()),
    )


def log_hazard(lesions: tuple[Lesion, ...], age_years: float, uptake: float = 0.0) -> float:
    """Return the known log hazard ratio.

    0.8 per doubling of volume over 10 ml (halved), 0.25 per lesion beyond the first, 0.03 per year over 60 and
    0.05 per unit of SUVmax: larger, more, older and hotter is worse. No lesion: -2 plus the age term.
    """
    age = 0.03 * (age_years - 60)
    if not lesions:
        return -2.0 + age
    volume = sum(lesion.volume_ml for lesion in lesions)
    return 0.4 * float(np.log2(volume / 10 + 0.05)) + 0.25 * (len(lesions) - 1) + age + 0.05 * uptake
