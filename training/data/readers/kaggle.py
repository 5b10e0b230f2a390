"""Kaggle's brain-tumour pictures: single slices as JPEG or PNG in folders named after what is to be seen.

`yes` and `no`, or `glioma`, `meningioma`, `pituitary` and `notumor`. Pictures have neither patient, spacing nor
outline: each counts as a patient of its own, and the longer side is taken for a field of view.
"""

import hashlib
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from daemon.imaging.volume import Grid, Volume
from training.data.readers import follow_up
from training.data.readers.follow_up import FollowUp
from training.data.readers.study import Images, Request, Study, file_name, files

FILES = "{yes,no}/*.{jpg,jpeg,png}, or folders glioma, meningioma, pituitary, notumor"
_TUMOUR = {
    **dict.fromkeys(("no", "notumor", "no_tumor", "normal", "healthy", "negative"), 0),
    **dict.fromkeys(("yes", "tumor", "tumour", "positive", "glioma", "meningioma", "pituitary"), 1),
    **dict.fromkeys(("glioma_tumor", "meningioma_tumor", "pituitary_tumor"), 1),
}
# These say no more than the label.
_PLAIN = {"yes", "no", "positive", "negative"}
_EXTENSIONS = {".jpg", ".jpeg", ".png"}


def find(root: Path, request: Request) -> list[Study]:
    """Return a study for each picture; the published folders hold copies, of which the first is kept.

    Raises:
        ValueError: one picture is in folders of both kinds.
    """
    first: dict[str, Path] = {}
    for path in (p for p in files(root) if p.suffix.lower() in _EXTENSIONS and _label(p) is not None):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        known = first.setdefault(digest, path)
        if _label(known) != _label(path):
            raise ValueError(f"{known} and {path} are one picture with two labels; remove it from one folder")
    patients = {digest: file_name(path.parent.name, path.stem, digest[:6]) for digest, path in first.items()}
    told = follow_up.of_patient(request.follow_up, patients.values())
    return [
        Study(
            name=patients[digest],
            patient=patients[digest],
            source=request.source or "Kaggle",
            load=partial(_load, path, request.field_mm, request.recipe.spacing[0]),
            tumour=_label(path),
            strata=() if path.parent.name.lower() in _PLAIN else (path.parent.name.lower(),),
            follow_up=told.get(patients[digest], FollowUp()),
        )
        for digest, path in first.items()
    ]


def _label(path: Path) -> int | None:
    return _TUMOUR.get(path.parent.name.lower())


def _load(path: Path, field_mm: float, thickness_mm: float) -> Images:
    with Image.open(path) as picture:
        grey: NDArray[np.float32] = np.asarray(picture.convert("L"), dtype=np.float32)
    step = field_mm / max(grey.shape)
    grid = Grid(size=(1, *grey.shape), spacing=(thickness_mm, step, step), origin=(0.0, 0.0, 0.0))
    return Images(volumes={"MR": Volume(voxels=grey[None], grid=grid)})
