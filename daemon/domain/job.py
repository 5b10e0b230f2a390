"""Jobs and their states, after the Unified Procedure Step (PS3.4 CC.1.1)."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from daemon.domain.handling import ORDINARY, Handling

# A job that met a passing fault is tried so often, each time after a pause longer by this.
ATTEMPTS = 50
PAUSE = timedelta(seconds=30)


class JobState(StrEnum):
    """Where a job stands. FAILED is ours: kept and replayable."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"
    FAILED = "FAILED"


TRANSITIONS: Mapping[tuple[JobState, JobState], str] = {
    (JobState.SCHEDULED, JobState.IN_PROGRESS): "a worker claimed it with a lease",
    (JobState.SCHEDULED, JobState.CANCELED): "an administrator cancelled it, or more instances made a newer job",
    (JobState.IN_PROGRESS, JobState.COMPLETED): "its outputs are committed",
    (JobState.IN_PROGRESS, JobState.FAILED): "its input cannot be processed, or every attempt failed",
    (JobState.IN_PROGRESS, JobState.SCHEDULED): "a passing fault, or its lease ran out",
    (JobState.FAILED, JobState.SCHEDULED): "an administrator asked to retry",
    (
        JobState.CANCELED,
        JobState.SCHEDULED,
    ): "an administrator asked to retry, or it is due after all: a refusal's report, or a superseded job",
}


def may_move(old: JobState, new: JobState) -> bool:
    """Tell whether a job may go from `old` to `new`."""
    return (old, new) in TRANSITIONS


@dataclass(frozen=True, kw_only=True)
class JobInput:
    """What a job reads: series by channel role (MR, or PET and CT) and the digests of their instances.

    `unread` says of each other series of the study why it is not read, as it was when the job was made.
    """

    study_instance_uid: str
    series: Mapping[str, str]
    instance_digests: tuple[str, ...]
    unread: tuple[str, ...] = ()
    handling: Handling = ORDINARY


def job_key(job_input: JobInput, bundle_digest: str) -> str:
    """Return the key a job is unique by: the same instances and bundle give the same key.

    All output UIDs derive from it.
    """
    parts: Iterable[str] = (
        job_input.study_instance_uid,
        *(f"{role}={uid}" for role, uid in sorted(job_input.series.items())),
        *sorted(job_input.instance_digests),
        bundle_digest,
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def refusal_key(study_instance_uid: str, bundle: str, reason: str) -> str:
    """Return the key of the job that reports why a study was not processed: one for each study, bundle and reason.

    `bundle` is the name of the one that failed, empty where none was chosen.
    """
    return hashlib.sha256(f"refusal\n{study_instance_uid}\n{bundle}\n{reason}".encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Lease:
    """A worker's claim: every write must carry the `fence` that the ledger holds."""

    job_id: int
    fence: int
    worker: str
    expires_at: datetime
