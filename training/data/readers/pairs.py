"""Images and outlines side by side, in any format that SimpleITK reads with its geometry.

Four ways to lay them out, also mixed: `<patient>/<ROLE>_image.nii.gz` with `<patient>/<ROLE>_mask.nii.gz` for each
channel role of the recipe (MR, PET, CT; the soft-tissue-sarcoma patients of `theibsi/data_sets` are such);
`<patient>_image.nrrd` with `<patient>_label.nrrd`; `images/<patient>.nii.gz` with `masks/<patient>.nii.gz`; and
nnU-Net's `imagesTr/<patient>_0000.nii.gz` with `labelsTr/<patient>.nii.gz`, whose `dataset.json` names the channels.
An image without outline is read as such.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from training.data.readers import follow_up
from training.data.readers.follow_up import FollowUp
from training.data.readers.study import Request, Study, file_name, flawed, image_files, load_files

FILES = (
    "<patient>/<ROLE>_image.* with <patient>/<ROLE>_mask.*, <patient>_image.* with <patient>_mask.*, "
    "images/<patient>.* with masks/<patient>.*, or imagesTr/<patient>_0000.* with labelsTr/<patient>.* "
    "(.nii, .nii.gz, .nrrd, .mha, .mhd)"
)
_OUTLINES = ("mask", "label", "seg")
_FOLDERS = ("masks", "labels", "mask", "label", "seg")


_CHANNEL = re.compile(r"(?P<name>.+)_(?P<number>\d{4})")
# What channels are called elsewhere; any other name is its own role.
_ROLES = {"PT": "PET", "SUV": "PET", "FDG": "PET", "PET": "PET", "MRI": "MR"}


@dataclass(frozen=True, kw_only=True)
class _Pair:
    name: str
    images: Mapping[str, Path]
    mask: Path | None


def find(root: Path, request: Request) -> list[Study]:
    """Return a study for each image, called as its file or folder.

    Raises:
        ValueError: the table of follow-up, `request.patient` or the channels of `dataset.json` do not fit.
    """
    folders = [root, *sorted(path for path in root.rglob("*") if path.is_dir())]
    pairs = [pair for folder in folders for pair in _pairs(folder, request)]
    patients = {pair.name: _patient(pair.name, request.patient) for pair in pairs}
    told = follow_up.of_patient(request.follow_up, patients.values())
    return [_study(pair, patients[pair.name], request, told) for pair in pairs]


def _patient(name: str, pattern: str) -> str:
    match = re.search(pattern, name) if pattern else None
    if pattern and (match is None or not match.groups()):
        raise ValueError(
            f"{pattern!r} finds no patient in {name!r}; put the patient's part in brackets, as in '^(.+)_'"
        )
    return str(match.group(1)) if match else name


def _pairs(folder: Path, request: Request) -> Iterator[_Pair]:
    files = dict(image_files(folder))
    by_role = {role: files[f"{role}_image"] for role in request.roles if f"{role}_image" in files}
    if by_role:
        mask = _first(files, [*(f"{role}_{kind}" for role in request.roles for kind in _OUTLINES), *_OUTLINES])
        yield _Pair(name=folder.name, images=by_role, mask=mask)
    elif folder.name in {"imagesTr", "imagesTs"}:
        yield from _numbered(folder, files, request)
    elif folder.name == "images":
        masks: dict[str, Path] = {}
        for near in (folder.with_name(name) for name in _FOLDERS):
            masks |= dict(image_files(near)) if near.is_dir() else {}
        yield from (_Pair(name=n, images={request.roles[0]: path}, mask=masks.get(n)) for n, path in files.items())
    else:
        for stem, path in files.items():
            if stem.endswith("_image"):
                name = stem.removesuffix("_image")
                mask = _first(files, [f"{name}_{kind}" for kind in _OUTLINES])
                yield _Pair(name=name, images={request.roles[0]: path}, mask=mask)


def _numbered(folder: Path, files: Mapping[str, Path], request: Request) -> Iterator[_Pair]:
    """Yield the cases of an nnU-Net folder, a file a channel."""
    cases: dict[str, dict[int, Path]] = {}
    for match, path in ((_CHANNEL.fullmatch(stem), path) for stem, path in files.items()):
        if match:
            cases.setdefault(match["name"], {})[int(match["number"])] = path
    numbers = {number for found in cases.values() for number in found}
    roles = _roles(folder.parent / "dataset.json", request.roles) if numbers else {}
    labels = folder.with_name(folder.name.replace("images", "labels"))
    masks = dict(image_files(labels)) if labels.is_dir() else {}
    for name, found in cases.items():
        images = {roles[number]: path for number, path in found.items() if roles.get(number) in request.roles}
        yield _Pair(name=name, images=images, mask=masks.get(name))


def _roles(path: Path, wanted: Sequence[str]) -> dict[int, str]:
    """Return the role of each channel number; without `dataset.json` they are in the recipe's order."""
    if not path.exists():
        return dict(enumerate(wanted))
    document = json.loads(path.read_text(encoding="utf-8"))
    named = {int(n): str(v).upper() for n, v in document.get("channel_names", document.get("modality", {})).items()}
    roles = {number: _ROLES.get(name, name) for number, name in named.items()}
    if not set(wanted) <= set(roles.values()) or len(set(roles.values())) < len(roles):
        raise ValueError(
            f"{path} calls its channels {', '.join(named.values())}, the recipe {', '.join(wanted)}; rename them in "
            "its 'channel_names'"
        )
    return roles


def _first(files: Mapping[str, Path], names: list[str]) -> Path | None:
    return next((files[name] for name in names if name in files), None)


def _study(pair: _Pair, patient: str, request: Request, told: Mapping[str, FollowUp]) -> Study:
    absent = [role for role in request.roles if role not in pair.images]
    return Study(
        name=file_name(pair.name),
        patient=patient,
        source=request.source or "pairs",
        load=flawed(
            f"it has no {', '.join(absent)}; a patient with several channels is a folder with <ROLE>_image files"
        )
        if absent
        else partial(load_files, pair.images, pair.mask, request.labels),
        follow_up=told.get(patient, FollowUp()),
    )
