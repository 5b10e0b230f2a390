"""autoPET (TCIA FDG-PET-CT-Lesions): `<patient>/<study>/{SUV,CTres,SEG}.nii.gz` and a table of metadata.

SUV is in g/ml, CTres the CT in HU on the PET's grid. Negative studies have an empty SEG.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from training.data.readers import follow_up
from training.data.readers.follow_up import FollowUp
from training.data.readers.study import Request, Study, file_name, files, flawed, load_files

FILES = "<patient>/<study>/{SUV,CTres,SEG}.nii.gz and a CSV with 'Subject ID', 'diagnosis', 'age', 'sex'"
_NEGATIVE = "negative"
_CLINICAL = {"age_years", "male", "weight_kg"}


def find(root: Path, request: Request) -> list[Study]:
    """Return a study for each SUV image; the diagnosis becomes a stratum."""
    folders = [path.parent for path in files(root) if path.name == "SUV.nii.gz"]
    tables = [path for path in sorted(root.glob("*.csv")) if path != request.follow_up]
    clinical = [{name: _clinical(row) for name, row in follow_up.read(path).items()} for path in tables]
    patients = {folder.parent.name for folder in folders}
    told = follow_up.merge([*clinical, follow_up.of_patient(request.follow_up, patients)])
    rows = [row for path in tables for row in _diagnosed(path)]
    return [_study(folder, request, rows, told.get(folder.parent.name, FollowUp())) for folder in folders]


def _clinical(row: FollowUp) -> FollowUp:
    """Leave out the table's numbers of images, bytes and the like."""
    return replace(row, covariates={name: v for name, v in row.covariates.items() if name in _CLINICAL})


def _diagnosed(path: Path) -> Iterator[dict[str, Any]]:
    table = follow_up.rows_of(path).fillna("")
    table.columns = [str(column).strip().lower() for column in table.columns]
    if "diagnosis" in table.columns:
        yield from table.to_dict("records")


def _diagnosis(folder: Path, rows: Sequence[dict[str, Any]]) -> str:
    """Return the study's diagnosis, or the patient's where no row names the study; empty where they differ."""
    patient = [row for row in rows if folder.parent.name in row.values()]
    own = [row for row in patient if any(folder.name in str(value) for value in row.values())]
    told = {str(row["diagnosis"]).strip().lower() for row in own or patient}
    return told.pop() if len(told) == 1 else ""


def _study(folder: Path, request: Request, rows: Sequence[dict[str, Any]], told: FollowUp) -> Study:
    patient, diagnosis = folder.parent.name, _diagnosis(folder, rows)
    images = {"PET": folder / "SUV.nii.gz", "CT": folder / "CTres.nii.gz"}
    mask = folder / "SEG.nii.gz"
    absent = [path.name for role, path in images.items() if role in request.roles and not path.exists()]
    paths = {role: path for role, path in images.items() if role in request.roles}
    return Study(
        name=file_name(patient, folder.name),
        patient=patient,
        source=request.source or "autoPET",
        load=flawed(f"it has no {', '.join(absent)} in {folder.name}")
        if absent
        else partial(load_files, paths, mask if mask.exists() else None, request.labels),
        tumour=int(diagnosis != _NEGATIVE) if diagnosis else None,
        strata=(diagnosis,) if diagnosis else (),
        follow_up=told,
    )
