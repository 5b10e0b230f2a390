"""The bucket behind the spool, where there is one: begun with, uploaded to, looked at."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from daemon.bootstrap import House
from daemon.errors import RetryableError
from daemon.runtime import alone

if TYPE_CHECKING:
    from daemon.spool.bucket import Backlog, BucketSpool

LOGGER = logging.getLogger(__name__)
# The lock of the part that uploads what waits.
UPLOADING = "uploading"
UPLOAD_SECONDS = 1.0
# What is received waits for so many seconds at most while all is well.
_MOMENT = 60.0


def _bucketed(house: House) -> "BucketSpool | None":
    if house.settings.bucket.place is None:
        return None
    from daemon.spool.bucket import BucketSpool

    return house.spool if isinstance(house.spool, BucketSpool) else None


def agree(house: House) -> None:
    """Check that patient.key is the bucket's; where the bucket does not answer, that waits until something is uploaded.

    Raises:
        FatalError: it is another's.
    """
    spool = _bucketed(house)
    try:
        if spool:
            spool.agree()
    except RetryableError as error:
        LOGGER.warning("%s", error)


def uploading(house: House) -> Callable[[], object] | None:
    """Return what uploads what waits on this machine; one of its parts does, as long as that lives."""
    spool = _bucketed(house)
    return alone(house.settings.data.folder / UPLOADING, spool.upload) if spool else None


def backlog(house: House) -> "Backlog | None":
    """Return what waits on this machine for the bucket; None where there is none."""
    spool = _bucketed(house)
    return spool.backlog() if spool else None


def examined(house: House) -> str:
    """Return in words how the bucket is, and what waits for it.

    Raises:
        OverreadError: it cannot be used, or something waits for longer than a minute; in words too, with the mend.
    """
    spool = _bucketed(house)
    if spool is None:
        return "none: the spool is a folder"
    try:
        said = spool.examine()
    except RetryableError as error:
        raise RetryableError("; ".join(filter(None, (str(error), care(house, 0.0))))) from error
    if waits := care(house, _MOMENT):
        raise RetryableError(f"{said}, but {waits}")
    return said


def care(house: House, seconds: float) -> str:
    """Return in words what waits for the bucket, where anything has for so long; else nothing."""
    found = backlog(house)
    if found is None or not found.files or found.seconds < seconds:
        return ""
    waits = f"{found.files} files ({found.size >> 20} MB) wait on this disk alone, for up to {found.seconds:.0f} s"
    return f"{waits}, and would be lost with it; keep `overread listen` running here until they are uploaded"
