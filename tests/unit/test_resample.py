"""Resampling along axes, against ITK."""

from collections.abc import Callable

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from daemon.imaging.resample import resample
from daemon.imaging.volume import Grid, Vector, Volume

SMOOTH = np.array([0.03, 1.6, 2.1])
FINE = Grid(size=(9, 33, 40), spacing=(3.0, 1.0, 1.25), origin=(-20.0, -15.5, 7.0))
TURNED = ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0), (1.0, 0.0, 0.0))


def _volume(grid: Grid) -> Volume:
    return Volume(voxels=np.random.default_rng(1).normal(0, 300, grid.size).astype(np.float32), grid=grid)


def _by_itk(volume: Volume, target: Grid, outside: float, *, smooth: bool) -> NDArray[np.float32]:
    image = volume.image()
    if smooth:
        image = sitk.DiscreteGaussian(image, (SMOOTH[::-1] ** 2).tolist(), 32, 0.02, True)
    made = sitk.Resample(image, target.blank(), sitk.Transform(), sitk.sitkLinear, outside)
    return np.asarray(sitk.GetArrayFromImage(made))


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        lambda g: Grid(size=(6, 9, 12), spacing=(4.0, 4.0, 4.0), origin=g.origin, axes=g.axes),
        lambda g: Grid(size=(30, 80, 90), spacing=(1.0, 0.5, 0.7), origin=(-40.0, -30.0, -9.0), axes=g.axes),
        # its first and last samples lie half a sample beyond the source's
        lambda g: Grid(size=(19, 34, 41), spacing=(1.5, 1.0, 1.25), origin=(-20.625, -16.0, 5.5), axes=g.axes),
        lambda g: Grid(size=(3, 4, 5), spacing=g.spacing, origin=(500.0, 0.0, 0.0), axes=g.axes),
    ],
    ids=["coarser", "finer, all round", "half a sample beyond", "elsewhere"],
)
@pytest.mark.parametrize("axes", [FINE.axes, TURNED], ids=["axial", "coronal"])
def test_it_is_what_itk_does(
    axes: tuple[Vector, Vector, Vector], change: Callable[[Grid], Grid], *, smooth: bool
) -> None:
    """Every voxel is ITK's, but for the rounding of single precision."""
    source = Grid(size=FINE.size, spacing=FINE.spacing, origin=FINE.origin, axes=axes)
    volume, target = _volume(source), change(source)
    made = resample(volume.voxels, source, target, -1000.0, SMOOTH if smooth else None)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, _by_itk(volume, target, -1000.0, smooth=smooth), rtol=0, atol=3e-4)
