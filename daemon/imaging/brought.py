"""Images that somebody brings: what kind of file one is, and pictures and NIfTI files as volumes.

They come from people, not from scanners: what a file does not say is assumed by rules that `assumptions` tells.
"""

import gzip
import math
import struct
import warnings
import zlib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydicom.dataset import Dataset

from daemon.errors import RefusedError
from daemon.imaging.read import MIN_SLICES, SourceFrame, SourceSeries
from daemon.imaging.volume import Grid, Volume

Array = NDArray[np.float32]
# How wide a head's field of view usually is; taken of a picture that does not say.
FIELD_MM = 240.0
LEAST_SIDE, MOST_PIXELS = 32, 1 << 22
MOST_VOXELS = 1 << 26  # 512 x 512 x 256
# What a part of a body may measure: beyond it a spacing is wrong, or in another unit.
LEAST_MM, MOST_MM = 30.0, 1000.0
# Of a grey picture's pixels hardly any differ by more than this between red, green and blue; JPEG shifts them a little.
_TINT, _TINTED_SHARE = 24, 0.01
# Headers of NIfTI-1 and NIfTI-2 (nifti1.h, nifti2.h), whose fields lie at fixed places.
_NIFTI_HEAD, _NIFTI2_HEAD = 352, 540
_CHUNK = 1 << 20
_ORIENTATION = "LPS"  # as DICOM lies: columns to the left, rows to the back, slices to the head


class UnknownKindError(RefusedError):
    """It is no file of a kind that is read."""


class Kind(StrEnum):
    """What a file is, by its first bytes; its name says nothing."""

    PNG = "png"
    JPEG = "jpeg"
    NIFTI = "nifti"
    NIFTI_GZ = "nifti-gz"
    ZIP = "zip"

    @property
    def flat(self) -> bool:
        """Return whether it is a picture of one slice."""
        return self in {Kind.PNG, Kind.JPEG}


@dataclass(frozen=True, kw_only=True, eq=False)
class Brought:
    """An image as a volume; `orientation` is how a NIfTI file's voxels lay, by the letters where each axis leads."""

    source: SourceSeries
    assumptions: tuple[str, ...]
    orientation: str = _ORIENTATION


def kind_of(path: Path) -> Kind:
    """Return what a file is.

    Raises:
        UnknownKindError: none of those that are read.
    """
    with path.open("rb") as file:
        head = file.read(_NIFTI_HEAD)
    starts = {b"\x89PNG\r\n\x1a\n": Kind.PNG, b"\xff\xd8\xff": Kind.JPEG, b"\x1f\x8b": Kind.NIFTI_GZ,
              b"PK\x03\x04": Kind.ZIP, b"PK\x05\x06": Kind.ZIP}  # fmt: skip
    found = next((kind for start, kind in starts.items() if head.startswith(start)), None)
    if found is None and (head[344:347] == b"n+1" or head[4:7] == b"n+2"):
        found = Kind.NIFTI
    if found is None:
        one = "; this is a single DICOM file: zip the whole series" if head[128:132] == b"DICM" else ""
        raise UnknownKindError(f"the file is no PNG, JPEG, NIfTI (.nii, .nii.gz) or zip of DICOM files{one}")
    return found


def read_picture(path: Path, slices: int, thickness_mm: float, spacing_mm: float | None) -> Brought:
    """Read a PNG or JPEG of one axial slice as a stack of `slices` equal ones.

    A network that looks at neighbours too sees the slice in their place, as in its training (`augment.flat`).

    Args:
        path: the picture.
        slices: how many, those that the network looks at.
        thickness_mm: their distance, the network's own.
        spacing_mm: distance of neighbouring pixels in mm, the same both ways; None where it is not known.

    Raises:
        RefusedError: it cannot be read, is in colour, too small, too large or all alike.
    """
    pixels = _grey(path)
    assumptions = ["One axial slice, its front up; its neighbours are taken to look the same."]
    if spacing_mm is None:
        spacing_mm = FIELD_MM / max(pixels.shape)
        assumptions.append(
            f"No pixel spacing was given: {spacing_mm:.3f} mm is taken, as if the longer side spanned {FIELD_MM:g} mm. "
            "So nothing is given in mm."
        )
    _check_extent([side * spacing_mm for side in pixels.shape])
    rows, columns = pixels.shape
    grid = Grid(size=(slices, rows, columns), spacing=(thickness_mm, spacing_mm, spacing_mm), origin=(0.0, 0.0, 0.0))
    volume = Volume(voxels=np.repeat(pixels[None], slices, axis=0), grid=grid)
    return Brought(source=_without_header(volume, path), assumptions=tuple(assumptions))


def read_nifti(path: Path, kind: Kind, folder: Path) -> Brought:
    """Read a NIfTI volume; its slices, rows and columns are put as DICOM's lie. `folder` is one to write to.

    Raises:
        RefusedError: it cannot be read, is no single volume of grey, or too large.
    """
    named = folder / "image.nii"
    if kind is Kind.NIFTI_GZ:
        _inflate(path, named)
    else:
        named.symlink_to(path.resolve())
    try:
        _check_whole(named)
        image = _volume(named)
    except (RuntimeError, struct.error) as error:
        # Its words hold paths and lines of its own source.
        raise RefusedError(
            "the NIfTI file cannot be read: it is damaged, or its axes are not at right angles; write it anew"
        ) from error
    filter_ = sitk.DICOMOrientImageFilter()
    orientation = filter_.GetOrientationFromDirectionCosines(image.GetDirection())
    volume = Volume.of(sitk.DICOMOrient(image, _ORIENTATION))
    _check_contrast(volume.voxels)
    assumptions = ("A head MR (FLAIR, T2 or T1 with or without contrast agent): a NIfTI file does not say.",)
    return Brought(source=_without_header(volume, path), assumptions=assumptions, orientation=orientation)


def laid_back(mask: NDArray[np.uint8], grid: Grid, orientation: str) -> NDArray[np.uint8]:
    """Return a mask (slices, rows, columns) on `grid` in the order of axes that the file had."""
    image = sitk.GetImageFromArray(mask)
    grid.place(image)
    return np.asarray(sitk.GetArrayFromImage(sitk.DICOMOrient(image, orientation)), dtype=np.uint8)


def _inflate(path: Path, target: Path) -> None:
    """Inflate a file as far as the largest volume would go, with its checksum."""
    left = _NIFTI_HEAD + 8 * MOST_VOXELS
    try:
        with gzip.open(path) as packed, target.open("xb") as plain:
            while chunk := packed.read(_CHUNK):
                left -= len(chunk)
                if left < 0:
                    raise RefusedError(f"the file inflates to more than the {MOST_VOXELS} voxels that are read")
                plain.write(chunk)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise RefusedError("the .gz file is cut off or damaged; send it again") from error


def _check_whole(path: Path) -> None:
    """Hold a file's length against its header: ITK reads what is missing as if it were 0."""
    if kind_of(path) is not Kind.NIFTI:
        raise RefusedError("the .gz file holds no NIfTI file")
    with path.open("rb") as file:
        head = file.read(_NIFTI2_HEAD)
    second = head[4:7] == b"n+2"
    order = "<" if int.from_bytes(head[:4], "little") in {348, 540} else ">"
    sides, bits, offset = ("8q", 14, "q") if second else ("8h", 72, "f")
    count, *rest = struct.unpack_from(order + sides, head, 16 if second else 40)
    (octets,) = struct.unpack_from(order + "h", head, bits)
    (start,) = struct.unpack_from(order + offset, head, 168 if second else 108)
    if path.stat().st_size < start + math.prod(rest[: max(count, 0)]) * octets / 8:
        raise RefusedError("the NIfTI file is shorter than its header says: it is cut off; send it again")


def _volume(path: Path) -> sitk.Image:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NiftiImageIO")
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    size = list(reader.GetSize())
    if len(size) > 3 and max(size[3:]) > 1:  # noqa: PLR2004 - columns, rows, slices
        raise RefusedError("the NIfTI file holds several volumes (4D); give one")
    if reader.GetNumberOfComponents() != 1 or reader.GetPixelID() in {sitk.sitkComplexFloat32, sitk.sitkComplexFloat64}:
        raise RefusedError("the NIfTI file holds colours, vectors or complex numbers; give one number a voxel")
    spatial = (*size, 1, 1)[:3]
    slices, *plane = sorted(spatial)
    if slices < MIN_SLICES:
        raise RefusedError(
            f"the NIfTI file has {slices} slices, which are no volume; give one slice as PNG with its pixel spacing"
        )
    if min(plane) < LEAST_SIDE or math.prod(spatial) > MOST_VOXELS:
        raise RefusedError(
            f"slices of at least {LEAST_SIDE} x {LEAST_SIDE} and at most {MOST_VOXELS} voxels are read; these are "
            f"{slices} of {plane[0]} x {plane[1]}"
        )
    _check_extent([n * s for n, s in zip(spatial, reader.GetSpacing()[:3], strict=True)])
    if len(size) > 3:  # noqa: PLR2004 - as above
        reader.SetExtractSize([*spatial, *(0 for _ in size[3:])])
    return sitk.Cast(reader.Execute(), sitk.sitkFloat32)


def _grey(path: Path) -> Array:
    """Return a picture's pixels (rows, columns), whatever their depth."""
    try:
        with warnings.catch_warnings():
            # One at a time is read, so nobody else's warnings are turned into errors.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = Image.open(path, formats=("PNG", "JPEG"))
        with opened as picture:
            _check_picture(picture)
            picture.load()
            pixels = _levels(ImageOps.exif_transpose(picture))
    except RefusedError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise RefusedError(f"pictures of at most {MOST_PIXELS} pixels are read; this one has more") from error
    except Exception as error:
        # Pillow's decoders raise what they like; all of it means that this is no whole picture.
        raise RefusedError("the picture cannot be read: it is cut off or damaged; save it anew") from error
    _check_contrast(pixels)
    return pixels


def _check_picture(picture: Image.Image) -> None:
    if picture.width * picture.height > MOST_PIXELS or min(picture.size) < LEAST_SIDE:
        raise RefusedError(
            f"pictures of at least {LEAST_SIDE} x {LEAST_SIDE} and at most {MOST_PIXELS} pixels are read; this is "
            f"{picture.width} x {picture.height}"
        )
    if getattr(picture, "n_frames", 1) > 1:
        raise RefusedError("the picture is a film of several; give one slice")


def _levels(picture: Image.Image) -> Array:
    if picture.mode.startswith(("I", "F", "L")) and picture.mode != "LA":
        return np.asarray(picture, dtype=np.float32)
    ground = Image.new("RGBA", picture.size, (0, 0, 0, 255))
    colours = np.asarray(Image.alpha_composite(ground, picture.convert("RGBA")), dtype=np.float32)[..., :3]
    tinted = float((np.ptp(colours, axis=-1) > _TINT).mean())
    if tinted > _TINTED_SHARE:
        raise RefusedError("the picture is in colour, which no MR slice is; give it in grey, without drawings on it")
    return np.asarray(colours.mean(axis=-1), dtype=np.float32)


def _check_extent(sides: list[float]) -> None:
    """Hold what an image spans in mm against what a part of a body may; a volume may be thin in one direction."""
    if max(sides) > MOST_MM or sorted(sides)[-2] < LEAST_MM:
        shown = " x ".join(f"{side:.4g}" for side in sides)
        raise RefusedError(
            f"by its spacing the image is {shown} mm, and {LEAST_MM:g} to {MOST_MM:g} are read; correct the spacing"
        )


def _check_contrast(values: Array) -> None:
    if float(values.max()) <= float(values.min()):
        raise RefusedError("all of the image has one value: there is nothing to see in it")


def _without_header(volume: Volume, path: Path) -> SourceSeries:
    """Return a volume as a series of which nothing else is known."""
    frame = SourceFrame(
        path=path, sop_class_uid="", sop_instance_uid="", frame_number=None, position=volume.grid.origin
    )
    header = Dataset()
    header.SOPInstanceUID = ""
    return SourceSeries(volume=volume, frames=(frame,) * volume.grid.size[0], headers=(header,))
