"""DICOM studies, outlined by SEG or RTSTRUCT; the series are those that the daemon would choose."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pydicom

from daemon.domain.instance import Instance
from daemon.domain.selection import choose
from daemon.errors import RefusedError
from daemon.imaging.facts import Stored, look, read_facts
from daemon.imaging.read import read_series
from daemon.imaging.suv import in_units
from training.data.readers import follow_up
from training.data.readers.annotations import SOP_CLASSES, outline
from training.data.readers.follow_up import FollowUp
from training.data.readers.study import Images, Request, Study, file_name, files, flawed

FILES = "DICOM files of any names and folders, image series with SEG or RTSTRUCT"
_HEAD = 16_384


@dataclass(frozen=True, kw_only=True)
class _Files:
    """A study's files by SOP Instance UID, and what is known of each; `patient` is Patient ID."""

    patient: str
    paths: Mapping[str, Path]
    instances: Sequence[Instance]


def find(root: Path, request: Request) -> list[Study]:
    """Return every study below `root`, by Study Instance UID; files that are not DICOM are passed over.

    A file that is called .dcm and is none, or is cut off, makes a study that cannot be read.
    """
    instances: dict[str, dict[str, tuple[Instance, Path]]] = {}
    broken = []
    for path in files(root):
        try:
            instance = facts(path)
        except RefusedError as error:
            if path.suffix.lower() == ".dcm":
                broken.append(_broken(path, root, str(error)))
            continue
        instances.setdefault(instance.study_instance_uid, {}).setdefault(instance.sop_instance_uid, (instance, path))
    studies = {uid: _files(found) for uid, found in instances.items()}
    told = follow_up.of_patient(request.follow_up, (study.patient for study in studies.values()))
    return [*broken, *(_study(uid, found, request, told) for uid, found in studies.items())]


def facts(path: Path) -> Instance:
    """Return what the daemon's choice of series goes by.

    Raises:
        RefusedError: it is no DICOM file, or is cut off.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    changed = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    stored = Stored(digest="", size=path.stat().st_size, received_at=changed, patient_salt=b"")
    return read_facts(path, stored, look(head))


def _files(found: Mapping[str, tuple[Instance, Path]]) -> _Files:
    instances = [instance for instance, _ in found.values()]
    paths = {uid: path for uid, (_, path) in found.items()}
    first = pydicom.dcmread(next(iter(paths.values())), stop_before_pixels=True, specific_tags=["PatientID"])
    return _Files(patient=str(first.get("PatientID") or "").strip(), paths=paths, instances=instances)


def _broken(path: Path, root: Path, cause: str) -> Study:
    name = file_name(*path.relative_to(root).parts)
    return Study(name=name, patient=name, source="DICOM", load=flawed(f"{path.name}: {cause}"))


def _study(uid: str, study: _Files, request: Request, told: Mapping[str, FollowUp]) -> Study:
    images = [i for i in study.instances if i.sop_class_uid not in SOP_CLASSES]
    drawn = [study.paths[i.sop_instance_uid] for i in study.instances if i.sop_class_uid in SOP_CLASSES]
    # Only a digest of the UID fits into a file name.
    key = hashlib.sha256(uid.encode()).hexdigest()[:8]
    patient = study.patient or key
    choice = choose(images, [request.manifest]) if images else None
    if choice is None:
        load = flawed("its images are not in the folder; put them beside the SEG or RTSTRUCT")
    elif choice.refusal is not None:
        load = flawed(choice.refusal.detail)
    else:
        (chosen,) = choice.chosen
        series = {
            role: tuple(study.paths[i.sop_instance_uid] for i in found.instances)
            for role, found in chosen.series.items()
        }
        load = partial(_load, series, tuple(drawn), request)
    return Study(
        name=file_name(patient, key),
        patient=patient,
        source=request.source or "DICOM",
        load=load,
        follow_up=told.get(patient, FollowUp()),
    )


def _load(paths: Mapping[str, Sequence[Path]], drawn: Sequence[Path], request: Request) -> Images:
    series = {role: read_series(found) for role, found in paths.items()}
    volumes = {role: in_units(role, found) for role, found in series.items()}
    return Images(volumes=volumes, mask=outline(drawn, series[request.roles[0]], request.region))
