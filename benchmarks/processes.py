"""What processes have spent."""

from contextlib import suppress

import psutil


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process and of those that it runs or ran."""
    found, process = 0.0, psutil.Process(pid)
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            found += sum(one.cpu_times()[:4])
    return found
