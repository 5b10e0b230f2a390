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
    """The instances that one source lists for a series; `retrieve_ae` is who gives them, empty where nobody said.

    `notices` counts the notifications that it was put together from.
    """

    series_instance_uid: str
    modality: str
    source: Source
    sop_instance_uids: frozenset[str]
    retrieve_ae: str = ""
    notices: int = 0

    @property
    def whole(self) -> bool:
        """Return whether it came at once; what grows with each instance may go on growing."""
        return self.source is Source.ARCHIVE or (self.notices == 1 and len(self.sop_instance_uids) > 1)


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

    `instances` were here when it was asked, `rounds` times so far. Until `until` it is under way or, once it has ended,
    not asked again. `detail` says what came of it.
    """

    instances: int
    rounds: int
    until: datetime
    under_way: bool
    detail: str


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What an archive is asked to list: these series of a study, and all of one modality, empty for none."""

    study_instance_uid: str
    series: frozenset[str]
    modality: str


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What came of a retrieval: how many instances the archive says it has sent, and what went wrong, if anything."""

    sent: int
    fault: str = ""
