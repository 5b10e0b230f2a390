"""Jobs and their states, after the Unified Procedure Step (PS3.4 CC.1.1)."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


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
    (JobState.CANCELED, JobState.SCHEDULED): "an administrator asked to retry",
}


def may_move(old: JobState, new: JobState) -> bool:
    """Tell whether a job may go from `old` to `new`."""
    return (old, new) in TRANSITIONS


@dataclass(frozen=True, kw_only=True)
class JobInput:
    """What a job reads: series by channel role (MR, or PET and CT) and the digests of their instances."""

    study_instance_uid: str
    series: Mapping[str, str]
    instance_digests: tuple[str, ...]


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


@dataclass(frozen=True, kw_only=True)
class Lease:
    """A worker's claim: every write must carry the `fence` that the ledger holds."""

    job_id: int
    fence: int
    worker: str
    expires_at: datetime
