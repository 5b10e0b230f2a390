"""Writes small folders in the layouts of public data: one bright ball in a head, or one hot ball in a body."""

from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

SIZE = (40, 44, 24)
CENTRE = (12, 30, 8)
RADIUS = 5.0


def ball(centre: tuple[int, int, int] = CENTRE, radius: float = RADIUS) -> NDArray[np.bool_]:
    """Return a ball in voxels (x, y, z) of RAS images."""
    away = np.indices(SIZE) - np.array(centre)[:, None, None, None]
    return np.asarray((away**2).sum(axis=0) <= radius**2)


def head(signal: float = 400.0, seed: int = 0) -> NDArray[np.float32]:
    """Return a noisy ellipsoid of signal 100 with the ball at `signal`."""
    away = (np.indices(SIZE).T - np.array(SIZE) / 2) / (np.array(SIZE) * 0.42)
    inside = (away.T**2).sum(axis=0) < 1
    noise = np.random.default_rng(seed).normal(0, 4, SIZE)
    return np.where(ball(), signal, np.where(inside, 100.0, 0.0) + noise).astype(np.float32)


def nifti(path: Path, voxels: NDArray[np.generic], spacing: tuple[float, float, float] = (1.0, 1.0, 2.0)) -> Path:
    """Write voxels (x, y, z), which grow to the right, anterior and up, with an origin that is not 0."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-90.0, -126.0, -72.0)
    kind = np.uint8 if voxels.dtype == np.bool_ else voxels.dtype
    nib.save(nib.Nifti1Image(voxels.astype(kind), affine), path)
    return path


def brats_case(folder: Path, names: dict[str, str], seed: int = 0) -> Path:
    """Write one BraTS case; `names` maps FLAIR, T2, T1C, T1 and seg to file names.

    The outline has labels 1, 2 and 4; each contrast has its own signal in the ball.
    """
    signals = {"FLAIR": 400.0, "T2": 350.0, "T1C": 300.0, "T1": 60.0}
    for kind, name in names.items():
        if kind == "seg":
            labels = np.where(ball(radius=2), 1, np.where(ball(radius=3), 4, 2)) * ball()
            nifti(folder / name, labels.astype(np.int16))
        else:
            nifti(folder / name, head(signals[kind], seed))
    return folder


def petct(folder: Path, names: tuple[str, str, str | None], *, tumour: bool = True) -> None:
    """Write PET (4 mm), CT (finer, same field) and mask (on the PET's grid), names relative to `folder`."""
    pet = np.where(ball() & tumour, 9.0, 1.0).astype(np.float32)
    nifti(folder / names[0], pet, (4.0, 4.0, 4.0))
    body = np.where(head() > 50, 40.0, -1000.0).astype(np.float32)
    nifti(folder / names[1], body.repeat(2, axis=0).repeat(2, axis=1), (2.0, 2.0, 4.0))
    if names[2]:
        nifti(folder / names[2], ball() & tumour, (4.0, 4.0, 4.0))
