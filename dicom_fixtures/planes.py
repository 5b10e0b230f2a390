"""Slice planes: any orientation, order and sign, and phantoms resampled onto them."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray


class Orientation(StrEnum):
    """How slices lie: the directions of row and column."""

    AXIAL = "axial"
    CORONAL = "coronal"
    SAGITTAL = "sagittal"
    OBLIQUE = "oblique"
    FLIPPED = "flipped"


COSINES: dict[Orientation, tuple[float, ...]] = {
    Orientation.AXIAL: (1, 0, 0, 0, 1, 0),
    Orientation.CORONAL: (1, 0, 0, 0, 0, -1),
    Orientation.SAGITTAL: (0, 1, 0, 0, 0, -1),
    Orientation.OBLIQUE: (0.9848078, 0.0, -0.1736482, 0.0593912, 0.9396926, 0.3368241),
    Orientation.FLIPPED: (-1, 0, 0, 0, -1, 0),
}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a series is cut: spacing (slice, row, column) in mm, None keeps the phantom's.

    `matrix` cuts or pads every slice to (rows, columns). `cosines` turns the planes freely instead of by
    `orientation`: six numbers as in Image Orientation (Patient), made orthonormal.
    """

    orientation: Orientation = Orientation.AXIAL
    spacing: tuple[float, float, float] | None = None
    matrix: tuple[int, int] | None = None
    cosines: tuple[float, ...] | None = None

    def directions(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the unit vectors of row and column, perpendicular to each other."""
        row, column = np.array(self.cosines or COSINES[self.orientation], dtype=float).reshape(2, 3)
        row /= np.linalg.norm(row)
        column -= row * (row @ column)
        return row, column / np.linalg.norm(column)


@dataclass(frozen=True, kw_only=True, eq=False)
class Slices:
    """Voxels (slices, rows, columns), and each slice's position and the common cosines and spacing."""

    voxels: NDArray[np.float32]
    positions: NDArray[np.float64]
    cosines: tuple[float, ...]
    spacing: tuple[float, float, float]
    image: sitk.Image


def centred(voxels: NDArray[np.float32], spacing: tuple[float, float, float]) -> sitk.Image:
    """Return `voxels` (slices, rows, columns) as an image centred on the origin, as phantoms are."""
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(spacing[::-1])
    image.SetOrigin([-(n - 1) * s / 2 for n, s in zip(image.GetSize(), spacing[::-1], strict=True)])
    return image


def cut(image: sitk.Image, layout: Layout, outside: float, *, nearest: bool = False) -> Slices:
    """Return `image` on the planes that `layout` asks for."""
    row, column = layout.directions()
    normal = np.cross(row, column)
    extent = np.array(image.GetSize()) * np.array(image.GetSpacing())
    spacing = np.array(layout.spacing or image.GetSpacing()[::-1])
    lengths = [float(np.abs(axis) @ extent) for axis in (normal, column, row)]
    size = [max(1, round(length / step)) for length, step in zip(lengths, spacing, strict=True)]
    if layout.matrix:
        size[1:] = layout.matrix
    steps = [axis * step for axis, step in zip((normal, column, row), spacing, strict=True)]
    origin = -sum(((n - 1) / 2 * step for n, step in zip(size, steps, strict=True)), np.zeros(3))
    target = sitk.Image(size[::-1], sitk.sitkFloat32)
    target.SetSpacing(spacing[::-1].tolist())
    target.SetOrigin(origin.tolist())
    target.SetDirection(np.array((row, column, normal)).T.ravel().tolist())
    how = sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear
    seen = sitk.Resample(sitk.Cast(image, sitk.sitkFloat32), target, sitk.Transform(), how, outside)
    return Slices(
        voxels=sitk.GetArrayFromImage(seen),
        positions=origin + np.arange(size[0])[:, None] * steps[0],
        cosines=(*row.tolist(), *column.tolist()),
        spacing=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
        image=seen,
    )
