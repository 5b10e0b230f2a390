"""HECKTOR: PET (SUV) and CT (HU) of head and neck as NIfTI, outline, clinical and end-point tables.

2022 has `imagesTr/<id>__PT.nii.gz`, `imagesTr/<id>__CT.nii.gz` and `labelsTr/<id>.nii.gz` (1 primary, 2 nodes); 2021
keeps `<id>_pt`, `<id>_ct` and `<id>_gtvt` in one folder, 2025 a folder a patient.
"""

import re
from functools import partial
from pathlib import Path

from training.data.readers import follow_up
from training.data.readers.follow_up import FollowUp
from training.data.readers.study import Request, Study, file_name, files, flawed, load_files

FILES = "imagesTr/<id>__PT.nii.gz, imagesTr/<id>__CT.nii.gz, labelsTr/<id>.nii.gz and *endpoint*.csv"
_PET = re.compile(r"(?P<id>.+?)_{1,2}pt\.nii(\.gz)?", re.IGNORECASE)
_CENTRE = re.compile(r"[A-Za-z]+")
_TABLES = ("*clinical*.csv", "*patient_info*.csv", "*endpoint*.csv")


def find(root: Path, request: Request) -> list[Study]:
    """Return a study for each PET; its source names the centre, which opens the patient's id."""
    pets = [(match["id"], path) for path in files(root) if (match := _PET.fullmatch(path.name))]
    tables = [follow_up.read(path) for pattern in _TABLES for path in files(root) if path.match(pattern)]
    told = follow_up.merge([*tables, follow_up.of_patient(request.follow_up, (patient for patient, _ in pets))])
    return [_study(patient, pet, request, told.get(patient, FollowUp())) for patient, pet in pets]


def _study(patient: str, pet: Path, request: Request, told: FollowUp) -> Study:
    ct = _other(pet, "CT")
    centre = _CENTRE.match(patient)
    paths = {role: path for role, path in (("PET", pet), ("CT", ct)) if role in request.roles and path}
    return Study(
        name=file_name(patient),
        patient=patient,
        source=f"{request.source or 'HECKTOR'} {centre.group() if centre else ''}".strip(),
        load=partial(load_files, paths, _mask(patient, pet), request.labels)
        if ct
        else flawed(f"it has no CT beside {pet.name}"),
        follow_up=told,
    )


def _other(pet: Path, kind: str) -> Path | None:
    """Return the file of another kind beside the PET, in the case that the PET's name is in."""
    found = re.search(r"pt(?=\.nii)", pet.name, re.IGNORECASE)
    at = found.start() if found else 0
    replaced = kind if pet.name[at].isupper() else kind.lower()
    path = pet.with_name(pet.name[:at] + replaced + pet.name[at + 2 :])
    return path if path.exists() else None


def _mask(patient: str, pet: Path) -> Path | None:
    labels = pet.parent.with_name(pet.parent.name.replace("images", "labels"))
    extension = ".nii.gz" if pet.name.endswith(".gz") else ".nii"
    places = (
        labels / f"{patient}{extension}",
        pet.with_name(f"{patient}_gtvt{extension}"),
        pet.with_name(f"{patient}{extension}"),
    )
    return next((path for path in places if path.exists()), None)
