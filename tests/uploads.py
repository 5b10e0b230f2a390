"""Images that people might upload: heads with and without a bright spot, as pictures, NIfTI and zips; and traps."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image

SIDE, SLICES = 96, 12
# Row, column and radius of the spot, in pixels of 2 mm.
SPOT = (40, 62, 8)
MM, THICKNESS = 2.0, 4.0


def head(*, tumour: bool = True) -> NDArray[np.uint8]:
    """Return a slice (96, 96): a disc whose signal grows to one side, and a bright spot in it."""
    rows, columns = np.indices((SIDE, SIDE))
    disc = (rows - SIDE / 2) ** 2 + (columns - SIDE / 2) ** 2 < 36**2
    pixels = np.where(disc, 90 + columns / 4, 2)
    if tumour:
        pixels[spot()] = 250
    return pixels.astype(np.uint8)


def spot() -> NDArray[np.bool_]:
    """Return where the spot is."""
    rows, columns = np.indices((SIDE, SIDE))
    return np.asarray((rows - SPOT[0]) ** 2 + (columns - SPOT[1]) ** 2 < SPOT[2] ** 2)


def picture(path: Path, pixels: NDArray[np.generic] | None = None) -> Path:
    """Write a slice as PNG or JPEG, as the name says."""
    Image.fromarray(head() if pixels is None else pixels).save(path)
    return path


def volume(*, tumour: bool = True) -> sitk.Image:
    """Return a volume, LPS, with the spot in its middle four slices."""
    voxels = np.stack([head(tumour=tumour and 4 <= n < 8) for n in range(SLICES)]).astype(np.int16)
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((MM, MM, THICKNESS))
    return image


def nifti(path: Path, image: sitk.Image | None = None) -> Path:
    """Write a volume as NIfTI, deflated where the name ends in .gz."""
    sitk.WriteImage(volume() if image is None else image, str(path))
    return path


def zipped(path: Path, folder: Path) -> Path:
    """Write the files of a folder as a zip."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(one for one in folder.rglob("*") if one.is_file()):
            archive.write(file, file.relative_to(folder))
    return path


def archive(path: Path, files: Mapping[str, bytes]) -> Path:
    """Write a zip of these files."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return path
