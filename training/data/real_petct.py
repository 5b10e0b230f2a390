"""Real PET/CT with tumour masks: one folder a patient, `PET_image`, `CT_image` and `PET_mask` as NIfTI.

PET is already SUVbw (g/ml), CT is HU. The layout is that of the soft-tissue-sarcoma patients of
`theibsi/data_sets` (TCIA Soft-tissue-Sarcoma, CC BY 3.0, doi 10.7937/K9/TCIA.2015.7GO2GSKS).
"""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from daemon.domain.model_bundle import Recipe
from daemon.imaging.steps import prepare, to_grid
from daemon.imaging.volume import Volume
from training.data.sample import Sample


def patients(root: Path) -> list[Path]:
    """Return the patient folders below `root`, sorted; none where `root` is absent."""
    return sorted(path.parent for path in root.glob("*/PET_image.nii.gz"))


def read(patient: Path, recipe: Recipe) -> Sample:
    """Return one patient as a sample without follow-up."""
    load = {name: _oriented(patient / f"{name}.nii.gz") for name in ("PET_image", "CT_image", "PET_mask")}
    ready = prepare({"PET": load["PET_image"], "CT": load["CT_image"]}, recipe)
    mask = to_grid(load["PET_mask"].voxels, load["PET_mask"].grid, ready.grid) > 0.5
    return Sample(
        name=patient.name,
        source="real STS",
        image=ready.array.astype(np.float16),
        mask=mask.astype(np.uint8),
        tumour=1,
        spacing=recipe.spacing,
        patient=patient.name,
    )


def _oriented(path: Path) -> Volume:
    image = sitk.DICOMOrient(sitk.ReadImage(str(path), sitk.sitkFloat32), "LPS")
    return Volume.of(image)
