"""Fault points: named places after each commit where tests end the process as power loss would."""

import os
import signal
from enum import StrEnum

VARIABLE = "OVERREAD_FAULT"


class Point(StrEnum):
    """Where a process can be made to die."""

    FILE_KEPT = "receive.file-kept"
    INSTANCE_RECORDED = "receive.instance-recorded"
    STUDY_SETTLED = "assemble.study-settled"
    JOB_CLAIMED = "process.job-claimed"
    OUTPUTS_KEPT = "process.outputs-kept"
    JOB_COMPLETED = "process.job-completed"
    OBJECTS_SENT = "deliver.objects-sent"
    DELIVERY_RECORDED = "deliver.recorded"
    COMMITMENT_ASKED = "confirm.asked"
    CONFIRMED = "confirm.recorded"
    FREED_RECORDED = "retire.recorded"


def reach(point: Point) -> None:
    """Kill this process with SIGKILL where the environment says `point=FILE` and FILE is not there yet.

    FILE is made first, so that a restarted process passes the same point.
    """
    name, _, marker = os.environ.get(VARIABLE, "").partition("=")
    if name != point.value:
        return
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
