"""What every layout gives: a study that can be read, and how it becomes a sample."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from daemon.domain.model_bundle import Manifest, Recipe
from daemon.imaging.steps import Prepared, prepare, to_grid
from daemon.imaging.volume import Grid, Volume
from training.data.readers.follow_up import FollowUp
from training.data.sample import Sample

# A lesion of this many model voxels cannot vanish by resampling alone.
_TOO_LARGE_TO_VANISH = 27
EXTENSIONS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to read for whom.

    `manifest` gives recipe and eligible series of the model to train. `source` names the data in samples, the
    layout's own name where empty. `contrasts` (FLAIR, T2, T1C, T1) each give a sample of an MR patient. `labels` are
    the mask values that mean tumour, all above 0 where empty. `region` is a regular expression for ROI and segment
    names; `patient` one whose first group is the patient in a name that tells more, such as the date. `follow_up` is
    a CSV beside those that the layout has itself. `field_mm` is the longer side of a picture without spacing.
    """

    manifest: Manifest
    source: str = ""
    contrasts: tuple[str, ...] = ("FLAIR",)
    labels: tuple[int, ...] = ()
    region: str = ""
    patient: str = ""
    follow_up: Path | None = None
    field_mm: float = 240.0

    @property
    def recipe(self) -> Recipe:
        """Return the model's preprocessing."""
        return self.manifest.recipe

    @property
    def roles(self) -> tuple[str, ...]:
        """Return the roles of the model's channels, the first one's grid being the reference."""
        return tuple(channel.role for channel in self.recipe.channels)


@dataclass(frozen=True, kw_only=True, eq=False)
class Images:
    """A patient's volumes by channel role, and the tumour's outline (0..1) on any grid, None where nobody drew one."""

    volumes: Mapping[str, Volume]
    mask: Volume | None = None


@dataclass(frozen=True, kw_only=True)
class Study:
    """One study to read; `load` may be called in another process.

    `name` becomes the sample's file name. `tumour` is what the layout says of a study without outline.
    """

    name: str
    patient: str
    source: str
    load: Callable[[], Images]
    tumour: int | None = None
    strata: tuple[str, ...] = ()
    follow_up: FollowUp = field(default_factory=FollowUp)


def read(study: Study, recipe: Recipe) -> Sample:
    """Return the study as a sample, prepared as the daemon would.

    Raises:
        ValueError: the outline lies outside the image, or the volume is too thin to be predicted.
        Exception: whatever the layout's files make their parser raise.
    """
    images = study.load()
    ready = prepare(images.volumes, recipe)
    demand_depth(ready, recipe)
    tumour, mask = study.tumour, None
    if images.mask is not None:
        mask, tumour = placed(images.mask, ready.grid), int((images.mask.voxels > 0.5).any())
    return Sample(
        name=study.name,
        source=study.source,
        image=ready.array.astype(np.float16),
        mask=mask,
        tumour=tumour,
        spacing=recipe.spacing,
        patient=study.patient,
        strata=study.strata,
        time_days=study.follow_up.time_days,
        event=study.follow_up.event,
        covariates=study.follow_up.covariates,
    )


def demand_depth(ready: Prepared, recipe: Recipe) -> None:
    """Raise ValueError for a volume thinner than the model's view, which the daemon refuses; one slice is a picture."""
    count = ready.array.shape[1]
    if 1 < count < recipe.neighbours:
        raise ValueError(
            f"the volume is {count} model slices of {recipe.spacing[0]:g} mm thick; at least {recipe.neighbours}"
        )


def placed(outline: Volume, grid: Grid) -> NDArray[np.uint8]:
    """Return an outline (0..1) on `grid`; what is small may vanish by resampling.

    Raises:
        ValueError: nothing of a larger one meets `grid`.
    """
    drawn = outline.voxels > 0.5
    mask = (to_grid(drawn.astype(np.float32), outline.grid, grid) > 0.5).astype(np.uint8)
    if not mask.any() and drawn.sum() * outline.grid.voxel_ml > _TOO_LARGE_TO_VANISH * grid.voxel_ml:
        raise ValueError("the outline lies outside the image; compare the two files' origin and orientation")
    return mask


def volume(path: Path) -> Volume:
    """Return a three-dimensional image file as a volume, its axes nearest to LPS.

    Raises:
        ValueError: it has not three dimensions, several values a voxel, or values that are no numbers.
        RuntimeError: SimpleITK cannot read it.
    """
    image = sitk.ReadImage(str(path))
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[..., 0]
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise ValueError(
            f"{path.name} has size {image.GetSize()} and {image.GetNumberOfComponentsPerPixel()} values a voxel; "
            "a plain three-dimensional image is needed"
        )
    found = Volume.of(sitk.DICOMOrient(sitk.Cast(image, sitk.sitkFloat32), "LPS"))
    if not np.isfinite(found.voxels).all():
        raise ValueError(f"{path.name} has {np.count_nonzero(~np.isfinite(found.voxels))} voxels that are no number")
    return found


def load_files(paths: Mapping[str, Path], mask: Path | None, labels: tuple[int, ...]) -> Images:
    """Return the images in files by role, and the outline that `labels` (all above 0 where empty) make."""
    volumes = {role: volume(path) for role, path in paths.items()}
    if mask is None:
        return Images(volumes=volumes)
    drawn = volume(mask)
    marked = np.isin(np.rint(drawn.voxels), labels) if labels else drawn.voxels > 0.5
    return Images(volumes=volumes, mask=Volume(voxels=marked.astype(np.float32), grid=drawn.grid))


def flawed(cause: str) -> Callable[[], Images]:
    """Return a `load` that raises ValueError: the study is there and cannot be read."""
    return partial(_refuse, cause)


def _refuse(cause: str) -> Images:
    raise ValueError(cause)


def files(root: Path) -> list[Path]:
    """Return the files below `root`, sorted, without what file systems hide or archivers add."""
    found = ((path, path.relative_to(root).parts) for path in root.rglob("*"))
    return sorted(
        path for path, parts in found if path.is_file() and not any(p.startswith((".", "__MACOSX")) for p in parts)
    )


def image_files(folder: Path) -> list[tuple[str, Path]]:
    """Return (name without extension, path) of the image files in `folder`, by name."""
    found = []
    for path in sorted(folder.iterdir()):
        extension = next((e for e in EXTENSIONS if path.name.lower().endswith(e)), None)
        if extension and path.is_file() and not path.name.startswith("."):
            found.append((path.name[: -len(extension)], path))
    return found


def file_name(*parts: str) -> str:
    """Return `parts` as one name that any file system takes."""
    return re.sub(r"[^\w.+-]+", "_", "-".join(part for part in parts if part)).strip("._")
