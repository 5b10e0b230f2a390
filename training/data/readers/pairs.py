"""Images and outlines side by side, in any format that SimpleITK reads with its geometry.

Three ways to lay them out, also mixed: `<patient>/<ROLE>_image.nii.gz` with `<patient>/<ROLE>_mask.nii.gz` for each
channel role of the recipe (MR, PET, CT; the soft-tissue-sarcoma patients of `theibsi/data_sets` are such);
`<patient>_image.nrrd` with `<patient>_label.nrrd`; `images/<patient>.nii.gz` with `masks/<patient>.nii.gz`. An image
without outline is read as such.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from training.data.readers import follow_up
from training.data.readers.follow_up import FollowUp
from training.data.readers.study import Request, Study, file_name, flawed, image_files, load_files

FILES = (
    "<patient>/<ROLE>_image.* with <patient>/<ROLE>_mask.*, <patient>_image.* with <patient>_mask.*, "
    "or images/<patient>.* with masks/<patient>.* (.nii, .nii.gz, .nrrd, .mha, .mhd)"
)
_OUTLINES = ("mask", "label", "seg")
_FOLDERS = ("masks", "labels", "mask", "label", "seg")


@dataclass(frozen=True, kw_only=True)
class _Pair:
    patient: str
    images: Mapping[str, Path]
    mask: Path | None


def find(root: Path, request: Request) -> list[Study]:
    """Return a study for each patient; its name is the patient's.

    Raises:
        ValueError: the table of follow-up does not fit.
    """
    folders = [root, *sorted(path for path in root.rglob("*") if path.is_dir())]
    pairs = [pair for folder in folders for pair in _pairs(folder, request)]
    told = follow_up.of_patient(request.follow_up, (pair.patient for pair in pairs))
    return [_study(pair, request, told.get(pair.patient, FollowUp())) for pair in pairs]


def _pairs(folder: Path, request: Request) -> Iterator[_Pair]:
    files = dict(image_files(folder))
    by_role = {role: files[f"{role}_image"] for role in request.roles if f"{role}_image" in files}
    if by_role:
        mask = _first(files, [*(f"{role}_{kind}" for role in request.roles for kind in _OUTLINES), *_OUTLINES])
        yield _Pair(patient=folder.name, images=by_role, mask=mask)
    elif folder.name == "images":
        masks: dict[str, Path] = {}
        for near in (folder.with_name(name) for name in _FOLDERS):
            masks |= dict(image_files(near)) if near.is_dir() else {}
        yield from (_Pair(patient=p, images={request.roles[0]: path}, mask=masks.get(p)) for p, path in files.items())
    else:
        for name, path in files.items():
            if name.endswith("_image"):
                patient = name.removesuffix("_image")
                mask = _first(files, [f"{patient}_{kind}" for kind in _OUTLINES])
                yield _Pair(patient=patient, images={request.roles[0]: path}, mask=mask)


def _first(files: Mapping[str, Path], names: list[str]) -> Path | None:
    return next((files[name] for name in names if name in files), None)


def _study(pair: _Pair, request: Request, told: FollowUp) -> Study:
    absent = [role for role in request.roles if role not in pair.images]
    return Study(
        name=file_name(pair.patient),
        patient=pair.patient,
        source=request.source or "pairs",
        load=flawed(f"it has no {', '.join(absent)}; such a patient is a folder with <ROLE>_image files")
        if absent
        else partial(load_files, pair.images, pair.mask, request.labels),
        follow_up=told,
    )
