"""References to DICOM objects by their UIDs."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Reference:
    """One SOP Instance and where it hangs: enough to ask a PACS for it or to ask it to commit it."""

    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
