"""Reads a SEG back independently of the code that wrote it, and compares it with a truth."""

from pathlib import Path

import highdicom as hd
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray


def outlined(seg: Path) -> NDArray[np.float64]:
    """Return LPS points (n, 3) in mm of the outlined voxels."""
    volume = hd.seg.segread(seg).get_volume(combine_segments=True)
    indices = np.argwhere(volume.array > 0)
    homogeneous = np.concatenate((indices, np.ones((len(indices), 1))), axis=1)
    return np.asarray((volume.affine @ homogeneous.T).T[:, :3])


def dice(seg: Path, truth: Path) -> float:
    """Return the Dice overlap of a SEG with a mask in NIfTI, compared in patient space on the mask's grid."""
    image = sitk.ReadImage(str(truth))
    mask = sitk.GetArrayFromImage(image) > 0
    found = np.zeros_like(mask)
    for point in outlined(seg):
        index = image.TransformPhysicalPointToIndex(point.tolist())
        found[index[::-1]] = True
    return float(2 * (found & mask).sum() / (found.sum() + mask.sum()))
