"""One training sample, whatever its source."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """A prepared study.

    `image` (channels, slices, rows, columns) float16 on a grid of `spacing` (slice, row, column) mm; `mask` (slices,
    rows, columns) or None where nobody drew one; `tumour` 0/1 or None where nobody said; `time_days` and `event`
    (1 died, 0 censored) or None without follow-up; `covariates` clinical numbers such as age in years; `log_hazard`
    only of phantoms, whose hazard is known. `patient` keeps splits apart, `strata` name what is hard about it.
    """

    name: str
    source: str
    image: NDArray[np.float16]
    mask: NDArray[np.uint8] | None
    tumour: int | None
    spacing: tuple[float, float, float]
    patient: str = ""
    strata: tuple[str, ...] = ()
    time_days: float | None = None
    event: int | None = None
    covariates: Mapping[str, float] = field(default_factory=dict)
    log_hazard: float | None = None

    def save(self, folder: Path) -> Path:
        """Write the sample as one compressed file, whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.npz"
        partial = path.with_suffix(".part.npz")
        mask = np.zeros(0, np.uint8) if self.mask is None else self.mask
        np.savez_compressed(partial, image=self.image, mask=mask, facts=json.dumps(self.facts()))
        partial.rename(path)
        return path

    def facts(self) -> dict[str, Any]:
        """Return all but the arrays, as JSON holds it."""
        keys = ("source", "tumour", "spacing", "patient", "strata", "time_days", "event", "log_hazard")
        return {**{key: getattr(self, key) for key in keys}, "covariates": dict(self.covariates)}

    def digest(self) -> str:
        """Return the SHA-256 of image and mask, in hex."""
        digest = hashlib.sha256()
        for array in (self.image, self.mask):
            if array is not None:
                digest.update(f"{array.dtype} {array.shape}".encode())
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    @classmethod
    def load(cls, path: Path) -> "Sample":
        """Read a sample back.

        Raises:
            ValueError: the file is no sample, or one of an older format.
        """
        with np.load(path) as stored:
            if not {"facts", "image", "mask"} <= {*stored}:
                raise ValueError(
                    f"{path} is no sample of this format; remove it and make it anew with prepare or synth"
                )
            facts = json.loads(str(stored["facts"]))
            mask = stored["mask"]
            facts |= {"spacing": tuple(facts["spacing"]), "strata": tuple(facts["strata"])}
            return cls(name=path.stem, image=stored["image"], mask=mask if mask.size else None, **facts)


def npz_files(folder: Path) -> list[Path]:
    """Return the npz files of a folder, without those half written, by name; none where there is no folder."""
    return sorted(p for p in folder.glob("*.npz") if not p.name.endswith(".part.npz"))
