"""Real MR heads with a lesion mask, only ever measured: `*_image.nrrd` beside `*_label.nrrd`."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from daemon.domain.model_bundle import Recipe
from daemon.imaging.steps import prepare, to_grid
from daemon.imaging.volume import Volume
from training.data.sample import Sample


def read(root: Path, recipe: Recipe) -> list[Sample]:
    """Return every head in `root`, sorted by name; none where it is absent."""
    return [_read(path, recipe) for path in sorted(root.glob("*_image.nrrd"))]


def _read(path: Path, recipe: Recipe) -> Sample:
    image, label = (_oriented(p) for p in (path, path.with_name(path.name.replace("_image", "_label"))))
    ready = prepare({"MR": image}, recipe)
    mask = to_grid(label.voxels, label.grid, ready.grid) > 0.5
    return Sample(
        name=path.name.removesuffix("_image.nrrd"),
        source="real head",
        image=ready.array.astype(np.float16),
        mask=mask.astype(np.uint8),
        tumour=int(mask.any()),
        spacing=recipe.spacing,
        patient=path.name.removesuffix("_image.nrrd"),
    )


def _oriented(path: Path) -> Volume:
    return Volume.of(sitk.DICOMOrient(sitk.ReadImage(str(path), sitk.sitkFloat32), "LPS"))
