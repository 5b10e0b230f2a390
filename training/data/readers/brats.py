"""BraTS 2018 to 2024: a folder a patient, a NIfTI file a contrast, and the outline in three or four labels.

Names are `<case>_{t1,t1ce,t2,flair,seg}.nii[.gz]` until 2021 and `<case>-{t1n,t1c,t2w,t2f,seg}.nii.gz` since 2023.
"""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from training.data.readers import follow_up
from training.data.readers.follow_up import FollowUp
from training.data.readers.study import Request, Study, file_name, files, flawed, load_files

FILES = "<case>/<case>_{t1,t1ce,t2,flair,seg}.nii[.gz] or <case>/<case>-{t1n,t1c,t2w,t2f,seg}.nii.gz"
CONTRASTS = ("FLAIR", "T2", "T1C", "T1")
_KINDS = {
    **dict.fromkeys(("flair", "t2f"), "FLAIR"),
    **dict.fromkeys(("t2", "t2w"), "T2"),
    **dict.fromkeys(("t1ce", "t1c", "t1gd"), "T1C"),
    **dict.fromkeys(("t1", "t1n"), "T1"),
    **dict.fromkeys(("seg", "segm"), "mask"),
}
_FILE = re.compile(rf"(?P<case>.+)[_-](?P<kind>{'|'.join(_KINDS)})\.nii(\.gz)?", re.IGNORECASE)
# One patient is scanned several times: BraTS-GLI-00005-100 is the second visit, Brats18_CBICA_AAB_1 the first.
_VISIT = re.compile(r"(?P<patient>BraTS-[A-Z]+-\d+)-\d{3}|(?P<early>Brats1\d_.+)_\d", re.IGNORECASE)
_GRADES = ("HGG", "LGG")


def find(root: Path, request: Request) -> list[Study]:
    """Return a study for each patient and contrast, or for each patient where the recipe names the contrasts.

    Raises:
        ValueError: a contrast is unknown.
    """
    unknown = set(request.contrasts) - set(CONTRASTS)
    if unknown:
        raise ValueError(f"contrast {', '.join(sorted(unknown))} is unknown; BraTS has {', '.join(CONTRASTS)}")
    cases = _cases(root)
    tables = [follow_up.read(path, all_died=True) for path in files(root) if path.match("survival_*.csv")]
    patients = {name for case, _ in cases for name in (case, patient_of(case))}
    told = follow_up.merge([*tables, follow_up.of_patient(request.follow_up, patients)])
    whole = "MR" not in request.roles
    return [
        _study((case, found), () if whole else (contrast,), request, told)
        for (case, _), found in cases.items()
        for contrast in (request.contrasts if not whole else ("",))
    ]


def patient_of(case: str) -> str:
    """Return the patient of a case: its name without the number of the visit."""
    visit = _VISIT.fullmatch(case)
    return (visit["patient"] or visit["early"]) if visit else case


def _cases(root: Path) -> dict[tuple[str, Path], dict[str, Path]]:
    cases: dict[tuple[str, Path], dict[str, Path]] = {}
    for path in files(root):
        match = _FILE.fullmatch(path.name)
        if match:
            kind = _KINDS[match["kind"].lower()]
            cases.setdefault((match["case"], path.parent), {})[kind] = path
    return _adopt(cases)


def _adopt(cases: dict[tuple[str, Path], dict[str, Path]]) -> dict[tuple[str, Path], dict[str, Path]]:
    """Give an outline under a name of its own (BraTS20_Training_355) to the only case in its folder."""
    for key in [key for key, found in cases.items() if set(found) == {"mask"}]:
        near = [other for other in cases if other != key and other[1] == key[1]]
        if len(near) == 1 and "mask" not in cases[near[0]]:
            cases[near[0]]["mask"] = cases.pop(key)["mask"]
    return cases


def _study(
    case: tuple[str, Mapping[str, Path]], contrast: tuple[str, ...], request: Request, told: Mapping[str, FollowUp]
) -> Study:
    name, found = case
    wanted = dict(zip(("MR",), contrast, strict=True)) if contrast else {role: role for role in request.roles}
    absent = [kind for kind in wanted.values() if kind not in found]
    paths = {role: found[kind] for role, kind in wanted.items() if kind in found}
    any_file = next(iter(found.values()))
    return Study(
        name=file_name(name, *contrast),
        patient=patient_of(name),
        source=" ".join((request.source or "BraTS", *contrast)),
        load=flawed(f"it has no {', '.join(absent)} beside {any_file.name}")
        if absent
        else partial(load_files, paths, found.get("mask"), request.labels),
        strata=tuple(grade for grade in _GRADES if grade in any_file.parts),
        follow_up=told.get(name) or told.get(patient_of(name)) or FollowUp(),
    )
