"""A clock that is wrong in the processes that a test starts, and nowhere else."""

import struct
import subprocess
from datetime import timedelta
from pathlib import Path

from tests.peers import need

SOURCE = Path(__file__).parent / "wrong_clock.c"


class WrongClock:
    """A clock that stands `offset` from the true one, for the processes that get its `environment`."""

    def __init__(self, folder: Path) -> None:
        need("cc")
        library, self._kept = folder / "wrong_clock.so", folder / "wrong_clock"
        self._kept.write_bytes(bytes(8))
        subprocess.run(["cc", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(library), str(SOURCE)], check=True)
        self.environment = {
            "LD_PRELOAD": str(library),
            "WRONG_CLOCK": str(self._kept),
            "OVERREAD_INFERENCE__PASSES": "60",
        }

    def jump(self, offset: timedelta) -> None:
        """Set it, for all of them at once."""
        with self._kept.open("r+b") as file:
            file.write(struct.pack("l", round(offset.total_seconds())))
