"""Programs of real peers: where they are found, and how they are ended."""

import os
import subprocess
import sys
from pathlib import Path


def system_path() -> str:
    """Return PATH without python's own folder: pynetdicom installs programs of DCMTK's names there."""
    here = str(Path(sys.executable).parent)
    return os.pathsep.join(part for part in os.get_exec_path() if part != here)


def end(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Ask a program to end; kill one that takes longer."""
    process.terminate()
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
