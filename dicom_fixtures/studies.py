"""Whole studies on disk: DICOM series, and the truth beside them."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicom_fixtures import headers
from dicom_fixtures.headers import Patient, StudyFrame
from dicom_fixtures.phantoms import BrainRequest, PetCtRequest, Phantom, brain, petct
from dicom_fixtures.phantoms.parts import generator
from dicom_fixtures.planes import Layout, Orientation, Slices, centred, cut

BRAIN_SPACING = (4.0, 1.0, 1.0)
PET_SPACING = (4.0, 4.0, 4.0)
CT_SPACING = (4.0, 2.0, 2.0)
PLANE_NAMES = {
    Orientation.AXIAL: "AX",
    Orientation.CORONAL: "COR",
    Orientation.SAGITTAL: "SAG",
    Orientation.OBLIQUE: "OBL",
    Orientation.FLIPPED: "AX",
}


@dataclass(frozen=True, kw_only=True)
class StudyRequest:
    """What study to make; `salt` gives other UIDs to the same pictures, `spacing` is (slice, row, column) in mm.

    `ct_spacing` is the grid of a PET/CT's CT. `descending` numbers instances from the head down.
    """

    seed: int
    lesions: int = 1
    contrasts: tuple[str, ...] = ("FLAIR",)
    spacing: tuple[float, float, float] | None = None
    layout: Layout = field(default_factory=Layout)
    patient: Patient | None = None
    descending: bool = False
    salt: str = ""
    accession: str = "FIXTURE"
    ct_spacing: tuple[float, float, float] = CT_SPACING


@dataclass(frozen=True, kw_only=True)
class StudyTruth:
    """Where a study lies and what is true of it; `series` and `series_uids` by contrast, PET or CT."""

    study_instance_uid: str
    folder: Path
    series: dict[str, list[Path]]
    mask: Path
    lesions: Path
    series_uids: dict[str, str]


def make_brain_mri(request: StudyRequest, out: Path) -> StudyTruth:
    """Write a head MR study below `out`; the mask is on the grid of the first contrast."""
    made = brain(
        BrainRequest(
            seed=request.seed,
            lesions=request.lesions,
            contrasts=request.contrasts,
            spacing=request.spacing or BRAIN_SPACING,
        )
    )
    frame = _frame(request, made, "BRAIN", "MR head")
    series = {}
    for number, contrast in enumerate(request.contrasts, start=1):
        slices = cut(centred(made.images[contrast], made.spacing), request.layout, 0.0)
        ds = headers.base(frame, "MR", contrast, number)
        headers.mr(ds, contrast, _plane_name(request.layout))
        series[contrast] = _write(ds, slices, _Target(frame=frame, name=contrast, request=request, out=out))
    return _truth(request, made, frame, (series, out))


def make_petct(request: StudyRequest, out: Path) -> StudyTruth:
    """Write an FDG PET/CT study below `out`; the mask is on the PET grid."""
    spacing = request.spacing or PET_SPACING
    made = petct(
        PetCtRequest(seed=request.seed, lesions=request.lesions, spacing=spacing, ct_spacing=request.ct_spacing)
    )
    frame = _frame(request, made, "PETCT", "PET/CT trunk")
    pet = cut(centred(made.images["PET"], made.spacing), request.layout, 0.0)
    ct_layout = replace(request.layout, spacing=None, matrix=None)
    ct = cut(centred(made.images["CT"], request.ct_spacing), ct_layout, -1000.0)
    pet_header, ct_header = headers.base(frame, "PT", "PET", 2), headers.base(frame, "CT", "CT", 1)
    headers.pet(pet_header, frame, len(pet.voxels))
    headers.ct(ct_header)
    series = {
        "PET": _write(pet_header, pet, _Target(frame=frame, name="PET", request=request, out=out)),
        "CT": _write(ct_header, ct, _Target(frame=frame, name="CT", request=request, out=out)),
    }
    return _truth(request, made, frame, (series, out))


@dataclass(frozen=True, kw_only=True)
class _Target:
    frame: StudyFrame
    name: str
    request: StudyRequest
    out: Path


def _frame(request: StudyRequest, made: Phantom, kind: str, description: str) -> StudyFrame:
    patient = request.patient or Patient(
        name=f"FIXTURE^{kind} {request.seed}",
        patient_id=f"FX-{kind}-{request.seed}{request.salt}",
        sex=made.sex,
        birth_date=f"{2026 - int(made.age_years)}0102",
        weight_kg=round(made.weight_kg, 1),
    )
    return StudyFrame(
        seed=f"{kind} {request.seed} {request.salt}",
        patient=patient,
        description=description,
        accession=request.accession,
    )


def _plane_name(layout: Layout) -> str:
    return "OBL" if layout.cosines else PLANE_NAMES[layout.orientation]


def _write(ds: Dataset, slices: Slices, target: _Target) -> list[Path]:
    """Write one file a slice; instance numbers follow acquisition order, file names a shuffled one."""
    folder = target.out / "dicom" / target.name
    folder.mkdir(parents=True, exist_ok=True)
    count = len(slices.voxels)
    names = generator(target.request.seed).permutation(count)
    order = range(count - 1, -1, -1) if target.request.descending else range(count)
    paths = []
    for index, at in enumerate(order):
        _plane(ds, slices, at, target.frame.patient.weight_kg)
        ds.InstanceNumber = index + 1
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = UID(target.frame.uid(target.name, str(at)))
        path = folder / f"{names[index]:04d}.dcm"
        ds.save_as(path, enforce_file_format=True)
        paths.append(path)
    return sorted(paths)


def _plane(ds: Dataset, slices: Slices, at: int, weight_kg: float) -> None:
    voxels = slices.voxels[at]
    ds.Rows, ds.Columns = voxels.shape
    ds.ImagePositionPatient = [f"{v:.6f}"[:16] for v in slices.positions[at]]
    ds.ImageOrientationPatient = [f"{v:.10f}"[:16] for v in slices.cosines]
    ds.PixelSpacing = [f"{slices.spacing[1]:.6g}", f"{slices.spacing[2]:.6g}"]
    ds.SliceThickness = f"{slices.spacing[0]:.6g}"
    if ds.Modality == "PT":
        ds.ImageIndex = at + 1
        activity = np.maximum(voxels, 0) * headers.becquerel_per_suv(weight_kg)
        slope = float(f"{max(float(activity.max()), 1.0) / 32767:.8g}")
        ds.RescaleSlope, ds.RescaleIntercept = f"{slope:.8g}", "0"
        stored = activity / slope
    else:
        stored = voxels + (1024 if ds.Modality == "CT" else 0)
    if ds.Modality == "MR":
        ds.SpacingBetweenSlices = f"{slices.spacing[0]:.6g}"
    ds.PixelData = np.clip(np.round(stored), 0, 65535).astype("<u2").tobytes()


def _truth(
    request: StudyRequest, made: Phantom, frame: StudyFrame, written: tuple[dict[str, list[Path]], Path]
) -> StudyTruth:
    series, out = written
    folder = out / "truth"
    folder.mkdir(parents=True, exist_ok=True)
    soft = cut(centred(made.mask.astype(np.float32), made.spacing), request.layout, 0.0)
    mask = sitk.Cast(soft.image >= 0.5, sitk.sitkUInt8)
    sitk.WriteImage(mask, str(folder / "mask.nii.gz"))
    table = {
        "seed": request.seed,
        "study_instance_uid": frame.uid("study"),
        "series_instance_uids": {name: frame.uid("series", name) for name in series},
        "log_hazard": made.log_hazard,
        "age_years": made.age_years,
        "sex": made.sex,
        "weight_kg": made.weight_kg,
        "lesions": [asdict(lesion) for lesion in made.lesions],
    }
    (folder / "lesions.json").write_text(json.dumps(table, indent=1), encoding="utf-8")
    return StudyTruth(
        study_instance_uid=frame.uid("study"),
        folder=out / "dicom",
        series=series,
        mask=folder / "mask.nii.gz",
        lesions=folder / "lesions.json",
        series_uids={name: frame.uid("series", name) for name in series},
    )
