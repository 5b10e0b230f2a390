"""What an administrator can hold for a while: nothing is lost by it, it only waits."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Activity(StrEnum):
    """What is held: claiming jobs, calling destinations, accepting associations."""

    JOBS = "jobs"
    DELIVERIES = "deliveries"
    RECEPTION = "reception"


@dataclass(frozen=True, kw_only=True)
class Pause:
    """An activity that is held, since when, and by whom (LOGIN@HOST)."""

    activity: Activity
    since: datetime
    by: str
