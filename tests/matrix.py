"""The matrix of sources that every result object must be right for (issue of trust, every object right)."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray

from daemon.domain.model_bundle import Manifest
from dicom_fixtures.headers import Patient
from dicom_fixtures.multiframe import make_multiframe
from dicom_fixtures.planes import Layout, Orientation
from dicom_fixtures.studies import StudyRequest, make_brain_mri, make_petct
from tests.manifests import BRAIN, PETCT
from tests.shared import files, shared
from tests.sources import COARSE, Case, case

NAMES: dict[str, tuple[str, list[str] | str]] = {
    "japanese": ("Yamada^Tarou=山田^太郎=やまだ^たろう", ["", "ISO 2022 IR 87"]),
    "korean": ("Hong^Gildong=洪^吉洞=홍^길동", ["", "ISO 2022 IR 149"]),
    "chinese": ("Wang^XiaoDong=王^小东", "GB18030"),
    "cyrillic": ("Люксембург^Иван", "ISO_IR 144"),
    "arabic": ("قباني^لنزار", "ISO_IR 127"),
    "unicode": ("Wang^XiaoDong=王^小東", "ISO_IR 192"),
}
NAMELESS = Patient(name="", patient_id="", birth_date="", sex="")
# Type 2 in PS3.3 C.7.1.1, C.7.2.1, C.7.3.1, C.7.5.1: there even where nothing is known, and yet often absent.
TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "SeriesNumber",
    "InstanceNumber",
    "Manufacturer",
    "PositionReferenceIndicator",
)
# Real series and the model that would read them; most others that are shared lack a Frame of Reference.
REAL: dict[str, Manifest] = {
    "dicom/mr-ge-t1-mprage": BRAIN,
    "dicom/mr-enhanced/Siemens/XA10/6_1.dcm": BRAIN,
    "petct/dicom/STS_002/PET/image": PETCT,
    "petct/dicom/STS_003/PET/image": PETCT,
}


def brain(out: Path, orientation: Orientation = Orientation.AXIAL, **request: object) -> list[Path]:
    """Write a coarse head MR; return its files."""
    matrix = request.pop("matrix", (64, 64))
    layout = Layout(orientation=orientation, spacing=COARSE, matrix=matrix)  # type: ignore[arg-type]
    wanted = StudyRequest(seed=3, spacing=COARSE, layout=layout, **request)  # type: ignore[arg-type]
    return make_brain_mri(wanted, out).series["FLAIR"]


def multiframe(out: Path, orientation: Orientation = Orientation.AXIAL, *, backwards: bool = False) -> list[Path]:
    """Write the same head as one Enhanced MR, its frames from the low end along the normal, or `backwards`."""
    path = make_multiframe(brain(out, orientation)[0].parent)
    if backwards:
        made = pydicom.dcmread(path)
        made.PixelData = np.ascontiguousarray(made.pixel_array[::-1]).tobytes()
        made.PerFrameFunctionalGroupsSequence = list(made.PerFrameFunctionalGroupsSequence)[::-1]
        made.save_as(path)
    return [path]


def framewise(out: Path) -> list[Path]:
    """Write an Enhanced MR whose rescale stands in each frame's group, as Siemens and Philips write it."""
    (path,) = multiframe(out)
    made = pydicom.dcmread(path)
    (shared_groups,) = made.SharedFunctionalGroupsSequence
    values = shared_groups.PixelValueTransformationSequence
    del shared_groups.PixelValueTransformationSequence
    for groups in made.PerFrameFunctionalGroupsSequence:
        groups.PixelValueTransformationSequence = values
    made.save_as(path)
    return [path]


def uneven(out: Path) -> list[Path]:
    """Write a head whose slices lie as scanners say: rounded, drifting a little, one a quarter of a mm off."""
    paths = brain(out)
    for number, path in enumerate(paths):
        dataset = pydicom.dcmread(path)
        x, y, z = map(float, dataset.ImagePositionPatient)
        off = 0.25 if number == len(paths) // 2 else 0.0
        dataset.ImagePositionPatient = [round(x + 0.03 * number, 2), y, round(z * 1.0123 + off, 2)]
        dataset.save_as(path)
    return paths


def without_type_2(out: Path) -> list[Path]:
    """Write a head whose sender left type 2 attributes away altogether."""
    paths = brain(out)
    for path in paths:
        dataset = pydicom.dcmread(path)
        for keyword in TYPE_2:
            if keyword in dataset:
                delattr(dataset, keyword)
        dataset.save_as(path)
    return paths


def petct(out: Path) -> Case:
    """Return the case of a PET that is read with its CT."""
    series = make_petct(StudyRequest(seed=2), out).series
    return case(series["PET"], count=2, manifest=PETCT, along=series["CT"])


def voxels(rows: int, columns: int) -> NDArray[np.bool_]:
    """Return an outline of rows x columns voxels in one slice, off centre."""
    mask = np.zeros((31, 64, 64), dtype=bool)
    mask[12, 20 : 20 + rows, 30 : 30 + columns] = True
    return mask


def named(who: str) -> Callable[[Path], Case]:
    """Return the maker of a head whose patient has a name in another script."""
    name, charset = NAMES[who]
    return lambda out: case(brain(out, patient=Patient(name=name, patient_id="FX-NAME", charset=charset)))


MATRIX: dict[str, Callable[[Path], Case]] = {
    "axial": lambda out: case(brain(out)),
    "coronal": lambda out: case(brain(out, Orientation.CORONAL)),
    "sagittal": lambda out: case(brain(out, Orientation.SAGITTAL)),
    "oblique": lambda out: case(brain(out, Orientation.OBLIQUE)),
    "negative cosines": lambda out: case(brain(out, Orientation.FLIPPED)),
    "descending": lambda out: case(brain(out, descending=True)),
    "odd matrix": lambda out: case(brain(out, matrix=(61, 63))),
    "odd oblique": lambda out: case(brain(out, Orientation.OBLIQUE, matrix=(51, 67)), count=3),
    "one voxel": lambda out: case(brain(out), mask=voxels(1, 1)),
    "one slice": lambda out: case(brain(out), mask=voxels(4, 7)),
    "many lesions": lambda out: case(brain(out), count=5),
    "no lesion": lambda out: case(brain(out), count=0),
    "multi-frame": lambda out: case(multiframe(out), count=2),
    "multi-frame backwards": lambda out: case(multiframe(out, backwards=True), count=2),
    "multi-frame sagittal": lambda out: case(multiframe(out, Orientation.SAGITTAL)),
    "empty type 2": lambda out: case(brain(out, patient=NAMELESS)),
    "no type 2": lambda out: case(without_type_2(out)),
    "petct": petct,
    **{who: named(who) for who in NAMES},
}


def real(name: str, out: Path) -> Case:
    """Return the case of a real series beside the checkout; skip the test where there is none."""
    source = shared(*name.split("/"))
    folder = out / "dicom"
    folder.mkdir()
    for path in files(source) if source.is_dir() else [source]:
        if pydicom.misc.is_dicom(path):
            shutil.copy(path, folder / path.name)
    return case(sorted(folder.iterdir()), count=2, manifest=REAL[name])
