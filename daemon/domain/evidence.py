"""What others say of a study's instances: notifications, and an archive's answers."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Source(StrEnum):
    """Who said it."""

    NOTIFICATION = "notification"
    ARCHIVE = "archive"


@dataclass(frozen=True, kw_only=True)
class SeriesListing:
    """The instances that one source lists for a series; `retrieve_ae` is who gives them, empty where nobody said."""

    series_instance_uid: str
    modality: str
    source: Source
    sop_instance_uids: frozenset[str]
    retrieve_ae: str = ""


@dataclass(frozen=True, kw_only=True)
class SeriesNotice:
    """What a notification says of one series: instances that are ONLINE, and those that are not, or no longer."""

    series_instance_uid: str
    modality: str
    online: frozenset[str]
    elsewhere: frozenset[str]
    retrieve_ae: str


@dataclass(frozen=True, kw_only=True)
class Notice:
    """An Instance Availability Notification (PS3.4 R.3), as far as it names instances that are received here."""

    study_instance_uid: str
    series: tuple[SeriesNotice, ...]


@dataclass(frozen=True, kw_only=True)
class Inquiry:
    """What came of asking the archive about a study.

    `instances` were here when it was asked. Until `until` it is under way, or, once it has ended, not to be taken up
    again. `tries` counts retrievals; `detail` says what came of it.
    """

    instances: int
    asked_at: datetime
    until: datetime
    under_way: bool
    tries: int
    detail: str
