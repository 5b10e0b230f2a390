"""What a job reads: the files of its instances, by channel role, as long as they are what was received."""

from pathlib import Path

from daemon.domain.instance import Instance
from daemon.domain.job import JobInput
from daemon.domain.reasons import Reason
from daemon.errors import RetryableError, UnprocessableError
from daemon.services.ports import Files, Spool


def instances_of(job_input: JobInput, files: Files, spool: Spool, mend: str) -> list[Instance]:
    """Return the instances that a job reads, every file of which is in the spool and whole.

    Raises:
        UnprocessableError: one is not; `mend` is what is then to be done.
        RetryableError: one may still be on its way here.
    """
    found = files.instances(job_input.instance_digests)
    spool.bring(one.digest for one in found)
    damaged = sum(not spool.sound(one.digest) for one in found)
    if damaged and spool.late:
        raise RetryableError(f"{damaged} of {len(found)} instances are not in the bucket yet, or damaged there")
    if damaged:
        raise UnprocessableError(
            Reason.DAMAGED, f"{damaged} of {len(found)} instances are gone from the spool or damaged; {mend}"
        )
    return found


def by_role(job_input: JobInput, instances: list[Instance], spool: Spool) -> dict[str, list[Path]]:
    """Return the paths of instances by channel role."""
    return {
        role: [spool.path(one.digest) for one in instances if one.series_instance_uid == uid]
        for role, uid in job_input.series.items()
    }
