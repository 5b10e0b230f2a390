"""One training sample, whatever its source."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """A prepared study.

    `image` (channels, slices, rows, columns) float16; `mask` (slices, rows, columns) or None where nobody drew
    one; `tumour` 0/1; `time_days` and `event` (1 died, 0 censored) or None without follow-up; `log_hazard` only of
    phantoms, whose hazard is known.
    """

    name: str
    source: str
    image: NDArray[np.float16]
    mask: NDArray[np.uint8] | None
    tumour: int
    time_days: float | None = None
    event: int | None = None
    log_hazard: float | None = None

    def save(self, folder: Path) -> Path:
        """Write the sample as one compressed file, whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.npz"
        partial = path.with_suffix(".part.npz")
        follow_up = [np.nan if v is None else float(v) for v in (self.time_days, self.event, self.log_hazard)]
        mask = np.zeros(0, np.uint8) if self.mask is None else self.mask
        np.savez_compressed(
            partial, image=self.image, mask=mask, tumour=self.tumour, follow_up=follow_up, source=self.source
        )
        partial.rename(path)
        return path

    @classmethod
    def load(cls, path: Path) -> "Sample":
        """Read a sample back."""
        with np.load(path) as stored:
            time, event, hazard = stored["follow_up"]
            return cls(
                name=path.stem,
                source=str(stored["source"]),
                image=stored["image"],
                mask=stored["mask"] if stored["mask"].size else None,
                tumour=int(stored["tumour"]),
                time_days=None if np.isnan(time) else float(time),
                event=None if np.isnan(event) else int(event),
                log_hazard=None if np.isnan(hazard) else float(hazard),
            )
