"""DICOM UIDs derived from what they name, so that a repeat yields the same object.

PS3.5 B.2: a UID under root 2.25 is the decimal form of a 128-bit UUID.
"""

import re
import uuid
from enum import StrEnum

_FORM = re.compile(r"[0-9]+(\.[0-9]+)*")
_LENGTH = 64
_NAMESPACE = uuid.UUID("6f1bb0b4-27e9-5d6c-9d0b-0c5a3c6a7b51")


class Role(StrEnum):
    """What a derived UID names; part of the derivation, so never rename one."""

    SEGMENTATION_SERIES = "segmentation-series"
    SEGMENTATION = "segmentation"
    REPORT_SERIES = "report-series"
    REPORT = "report"
    TRACKING = "tracking"
    OBSERVER = "observer"
    DEVICE = "device"
    TRANSACTION = "transaction"
    DIMENSIONS = "dimensions"
    KEY_IMAGES_SERIES = "key-images-series"
    KEY_IMAGE = "key-image"
    SUMMARY_SERIES = "summary-series"
    SUMMARY = "summary"
    UNCERTAINTY_SERIES = "uncertainty-series"
    UNCERTAINTY = "uncertainty"
    PRESENTATION_SERIES = "presentation-series"
    PRESENTATION = "presentation"
    KEY_OBJECTS_SERIES = "key-objects-series"
    KEY_OBJECTS = "key-objects"
    PROBABILITY_SERIES = "probability-series"
    PROBABILITY = "probability"
    ACTIVATION_SERIES = "activation-series"
    ACTIVATION = "activation"


def derive(role: Role, *parts: str) -> str:
    """Return the UID that `role` and `parts` always give.

    Args:
        role: what the UID is for.
        parts: what it is derived from, such as a job key and a segment number.
    """
    name = "\x1f".join((role.value, *parts))
    return f"2.25.{uuid.uuid5(_NAMESPACE, name).int}"


def is_uid(text: str) -> bool:
    """Tell whether `text` has the form of a UID (PS3.5 9.1; leading zeros pass): a UID may become a file name."""
    return len(text) <= _LENGTH and _FORM.fullmatch(text) is not None
