"""What lies in a folder that came from a PACS: image series and segmentations, by UID."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.uid import SegmentationStorage

_TAGS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "Manufacturer",
    "ContentDate",
    "ContentTime",
    "ReferencedSeriesSequence",
)
OURS = "Overread"


@dataclass(kw_only=True)
class Series:
    """An image series: its files by SOP Instance UID."""

    uid: str
    study: str
    frame_of_reference: str
    modality: str
    files: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Outline:
    """A segmentation; `sources` maps the series it refers to onto their instances, `made` orders it in time."""

    uid: str
    path: Path
    made: tuple[str, str, str]
    ours: bool
    sources: dict[str, frozenset[str]]


@dataclass(frozen=True, kw_only=True)
class Inbox:
    """All image series by UID, and all segmentations, oldest first."""

    series: dict[str, Series]
    outlines: tuple[Outline, ...]


def look(folder: Path) -> Inbox:
    """Read the headers of all DICOM files below `folder`; other files are passed over.

    Raises:
        FileNotFoundError: there is no DICOM file.
    """
    series: dict[str, Series] = {}
    outlines = []
    for path, header in _headers(folder):
        if header.SOPClassUID == SegmentationStorage:
            outlines.append(_outline(path, header))
            continue
        uid = str(header.SeriesInstanceUID)
        made = series.setdefault(
            uid,
            Series(
                uid=uid,
                study=str(header.StudyInstanceUID),
                frame_of_reference=str(header.get("FrameOfReferenceUID", "")),
                modality=str(header.get("Modality", "")),
            ),
        )
        made.files[str(header.SOPInstanceUID)] = path
    if not series and not outlines:
        raise FileNotFoundError(f"no DICOM file below {folder}; export the corrected SEGs and their series into it")
    return Inbox(series=series, outlines=tuple(sorted(outlines, key=lambda o: o.made)))


def _headers(folder: Path) -> Iterator[tuple[Path, pydicom.Dataset]]:
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
        except (InvalidDicomError, OSError):
            continue
        if header.get("SOPClassUID") and header.get("SeriesInstanceUID"):
            yield path, header


def _outline(path: Path, header: pydicom.Dataset) -> Outline:
    sources = {
        str(item.SeriesInstanceUID): frozenset(
            str(reference.ReferencedSOPInstanceUID) for reference in item.get("ReferencedInstanceSequence") or ()
        )
        for item in header.get("ReferencedSeriesSequence") or ()
    }
    uid = str(header.SOPInstanceUID)
    return Outline(
        uid=uid,
        path=path,
        made=(str(header.get("ContentDate", "")), str(header.get("ContentTime", "")), uid),
        ours=str(header.get("Manufacturer", "")) == OURS,
        sources=sources,
    )
