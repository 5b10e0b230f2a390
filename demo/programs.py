"""Where the programs of real peers are found."""

import os
import sys
from pathlib import Path


def system_path() -> str:
    """Return PATH without python's own folder: pynetdicom installs programs of DCMTK's names there."""
    here = str(Path(sys.executable).parent)
    return os.pathsep.join(part for part in os.get_exec_path() if part != here)
