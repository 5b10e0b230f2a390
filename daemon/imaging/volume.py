"""Volumes: voxels and where they lie in the patient."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

Vector = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A lattice in LPS patient space, lengths in mm.

    `size` and `spacing` are (slice, row, column); `origin` is the first voxel's centre (x, y, z). `axes` holds three
    unit vectors: the directions in which the slice, row and column index grow.
    """

    size: tuple[int, int, int]
    spacing: Vector
    origin: Vector
    axes: tuple[Vector, Vector, Vector] = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))

    @property
    def voxel_ml(self) -> float:
        """Return the volume of one voxel in ml."""
        return self.spacing[0] * self.spacing[1] * self.spacing[2] / 1000

    def blank(self, kind: int = sitk.sitkFloat32) -> sitk.Image:
        """Return an empty SimpleITK image on this grid."""
        image = sitk.Image([int(n) for n in self.size[::-1]], kind)
        self.place(image)
        return image

    def place(self, image: sitk.Image) -> None:
        """Give `image` this grid's spacing, origin and direction."""
        image.SetSpacing(self.spacing[::-1])
        image.SetOrigin(self.origin)
        image.SetDirection(np.array(self.axes[::-1]).T.ravel().tolist())

    def points(self, indices: NDArray[np.floating] | NDArray[np.integer]) -> NDArray[np.float64]:
        """Return LPS coordinates (n, 3) in mm of voxel `indices` (n, 3) given as (slice, row, column)."""
        steps = np.array(self.axes) * np.array(self.spacing)[:, None]
        return np.asarray(np.array(self.origin) + np.asarray(indices, dtype=np.float64) @ steps)

    @classmethod
    def of(cls, image: sitk.Image) -> Self:
        """Return the grid of a three-dimensional image."""
        columns = np.array(image.GetDirection()).reshape(3, 3).T
        vectors = [(float(v[0]), float(v[1]), float(v[2])) for v in columns[::-1]]
        x, y, z = image.GetSize()
        sx, sy, sz = image.GetSpacing()
        ox, oy, oz = image.GetOrigin()
        return cls(
            size=(z, y, x),
            spacing=(sz, sy, sx),
            origin=(ox, oy, oz),
            axes=(vectors[0], vectors[1], vectors[2]),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Volume:
    """Voxels of shape `grid.size` in the modality's units: SUVbw g/ml, HU, or arbitrary MR signal."""

    voxels: NDArray[np.float32]
    grid: Grid

    def image(self) -> sitk.Image:
        """Return a SimpleITK image of these voxels."""
        image = sitk.GetImageFromArray(self.voxels)
        self.grid.place(image)
        return image

    @classmethod
    def of(cls, image: sitk.Image) -> Self:
        """Return the volume of a SimpleITK image."""
        return cls(voxels=sitk.GetArrayFromImage(image).astype(np.float32, copy=False), grid=Grid.of(image))
