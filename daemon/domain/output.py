"""Outputs: the DICOM objects a job makes."""

from dataclasses import dataclass
from enum import StrEnum


class OutputKind(StrEnum):
    """What kind of object an output is."""

    SEGMENTATION = "SEG"
    REPORT = "SR"


@dataclass(frozen=True, kw_only=True)
class Output:
    """One result object in the spool; `digest` is the SHA-256 of its file."""

    kind: OutputKind
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    digest: str
    size: int
