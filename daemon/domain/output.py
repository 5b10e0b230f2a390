"""Outputs: the DICOM objects a job makes, and what a destination gets of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self


class OutputKind(StrEnum):
    """What kind of object an output is."""

    SEGMENTATION = "SEG"
    REPORT = "SR"
    KEY_IMAGES = "key-images"
    SUMMARY = "pdf"
    UNCERTAINTY = "uncertainty"
    PROBABILITY = "probability"
    ACTIVATION = "activation"
    PRESENTATION = "gsps"
    KEY_OBJECTS = "kos"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a kind.

        Raises:
            ValueError: there is none of that name.
        """
        try:
            return cls(text)
        except ValueError as error:
            raise ValueError(f"{text!r} is no kind of result; they are {', '.join(cls)}") from error


# What a destination must take to get a kind (PS3.4 B.5); by the same classes it is probed.
SOP_CLASSES: Mapping[OutputKind, str] = {
    OutputKind.SEGMENTATION: "1.2.840.10008.5.1.4.1.1.66.4",
    OutputKind.REPORT: "1.2.840.10008.5.1.4.1.1.88.34",
    OutputKind.KEY_IMAGES: "1.2.840.10008.5.1.4.1.1.7",
    OutputKind.SUMMARY: "1.2.840.10008.5.1.4.1.1.104.1",
    OutputKind.UNCERTAINTY: "1.2.840.10008.5.1.4.1.1.30",
    OutputKind.PROBABILITY: "1.2.840.10008.5.1.4.1.1.30",
    OutputKind.ACTIVATION: "1.2.840.10008.5.1.4.1.1.7",
    OutputKind.PRESENTATION: "1.2.840.10008.5.1.4.1.1.11.1",
    OutputKind.KEY_OBJECTS: "1.2.840.10008.5.1.4.1.1.88.59",
}
# Always made: the report refers to the outline, and a later report names the one before.
ALWAYS = (OutputKind.SEGMENTATION, OutputKind.REPORT)


@dataclass(frozen=True, kw_only=True)
class Replacement:
    """What goes to a destination instead of a kind that it refuses; written SEG=key-images."""

    refused: OutputKind
    instead: OutputKind

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an entry.

        Raises:
            ValueError: it is not KIND=KIND, or a kind would replace itself.
        """
        refused, _, instead = text.partition("=")
        found = cls(refused=OutputKind.parse(refused), instead=OutputKind.parse(instead))
        if found.refused is found.instead:
            raise ValueError(f"{text!r} replaces a kind by itself; name another after the =")
        return found

    def __str__(self) -> str:
        return f"{self.refused.value}={self.instead.value}"


def check_replacements(replacements: Iterable[Replacement]) -> None:
    """Check that every refusal has one end.

    Raises:
        ValueError: a kind has two replacements, or a replacement has one of its own.
    """
    entries = tuple(replacements)
    refused = [entry.refused for entry in entries]
    if len(set(refused)) < len(refused):
        raise ValueError("a kind stands twice before the =; give it one replacement")
    chained = sorted({entry.instead.value for entry in entries} & {kind.value for kind in refused})
    if chained:
        raise ValueError(f"{', '.join(chained)} replaces another kind and has a replacement; leave one of both out")


@dataclass(frozen=True, kw_only=True)
class Output:
    """One result object in the spool; `digest` is the SHA-256 of its file."""

    kind: OutputKind
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    digest: str
    size: int
