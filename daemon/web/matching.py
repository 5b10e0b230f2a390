"""Matching of QIDO-RS (PS3.18 8.3.4, PS3.4 C.2.2.2): what a query asks, and whether an object's header fits."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import translate

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from daemon.errors import RefusedError

MOST = 200
_CONTROLS = frozenset({"limit", "offset", "includefield", "fuzzymatching", "accept"})
_RANGED = frozenset({"DA", "TM", "DT"})
_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_LONGEST = 256
STUDY_KEYS = (
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ModalitiesInStudy",
    "ReferringPhysicianName",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyID",
    "StudyDescription",
)
SERIES_KEYS = (
    "Modality",
    "SeriesDescription",
    "SeriesInstanceUID",
    "SeriesNumber",
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
)
INSTANCE_KEYS = ("SOPClassUID", "SOPInstanceUID", "InstanceNumber")


@dataclass(frozen=True, kw_only=True)
class Query:
    """A query: wanted values by keyword, which page, and keywords that the answer is to have besides."""

    keys: Mapping[str, str]
    limit: int
    offset: int
    include: tuple[str, ...]
    fuzzy: bool

    def only(self, keywords: Iterable[str]) -> dict[str, str]:
        """Return the keys among these keywords."""
        return {keyword: self.keys[keyword] for keyword in keywords if keyword in self.keys}

    def uids(self, keyword: str) -> tuple[str, ...]:
        """Return the UIDs that are asked for, none for all."""
        return tuple(part for part in re.split(r"[,\\]", self.keys.get(keyword, "")) if part)


def parse(given: Iterable[tuple[str, str]], supported: Iterable[str]) -> Query:
    """Read a query's parameters, by keyword or tag.

    Raises:
        RefusedError: a key is unknown or not matched here, or a number is none.
    """
    keys: dict[str, str] = {}
    controls = dict.fromkeys(_CONTROLS, "")
    include: list[str] = []
    allowed = frozenset(supported)
    for name, value in given:
        if name == "includefield":
            include += [keyword for part in value.split(",") if part != "all" and (keyword := _keyword(part))]
        elif name in _CONTROLS:
            controls[name] = value
        else:
            keyword = _keyword(name)
            if keyword not in allowed:
                raise RefusedError(f"{name[:64]!r} is not matched here; what is: {', '.join(sorted(allowed))}")
            keys[keyword] = value[:_LONGEST]
    return Query(
        keys={keyword: value for keyword, value in keys.items() if value not in {"", "*"}},
        limit=min(_number(controls["limit"], "limit", MOST), MOST),
        offset=_number(controls["offset"], "offset", 0),
        include=tuple(include[:50]),
        fuzzy=controls["fuzzymatching"].lower() == "true",
    )


def fits(header: Dataset, keys: Mapping[str, str]) -> bool:
    """Return whether a header has the values that are wanted; an attribute that it lacks fits no value."""
    return all(_fits(header, keyword, value) for keyword, value in keys.items())


def _fits(header: Dataset, keyword: str, wanted: str) -> bool:
    vr = dictionary_VR(keyword)
    value = header.get(keyword)
    values = list(value) if isinstance(value, MultiValue | list) else [value]
    present = [str(one).strip() for one in values if one is not None and str(one)]
    if vr == "UI":
        return any(one in re.split(r"[,\\]", wanted) for one in present)
    if vr in _RANGED and "-" in wanted:
        first, _, last = wanted.partition("-")
        return any((not first or first <= one) and (not last or one[: len(last)] <= last) for one in present)
    if vr == "PN":
        return any(_like(one.casefold().rstrip("^"), wanted.casefold().rstrip("^")) for one in present)
    return any(_like(one, wanted) for one in present)


def _like(value: str, wanted: str) -> bool:
    """Return whether a value is the wanted one, in which * stands for any characters and ? for one."""
    # A name may stand in several scripts (PS3.5 6.2.1.1).
    pattern = re.compile(translate(wanted.replace("[", "[[]")))
    return any(pattern.fullmatch(part) for part in {value, *(part.rstrip("^") for part in value.split("="))})


def _keyword(name: str) -> str:
    if _TAG.fullmatch(name):
        return keyword_for_tag(int(name, 16))
    return name if tag_for_keyword(name) is not None else ""


def _number(text: str, name: str, usual: int) -> int:
    if not text:
        return usual
    if not (text.isascii() and text.isdecimal() and len(text) < 10):  # noqa: PLR2004 - nine digits are enough
        raise RefusedError(f"{name}={text[:20]!r} is no number")
    return int(text)
