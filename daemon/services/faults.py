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
    """Kill this process with SIGKILL where the environment names `point`; else do nothing."""
    if os.environ.get(VARIABLE) == point.value:
        os.kill(os.getpid(), signal.SIGKILL)
