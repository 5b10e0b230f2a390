"""How unlike a study is to those of the training: distance to the nearest of them (Sun et al. 2022)."""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from daemon.errors import FatalError

Array = NDArray[np.float32]
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def describe(image: Array, deepest: Sequence[Array]) -> Array:
    """Return what a study looks like to the model, as one vector (members x c + 5 x channels,).

    Args:
        image: prepared input (channels, slices, rows, columns).
        deepest: each member's f4 of all slices (slices, c, h, w).

    Returns:
        The mean of each deepest feature, then intensity quantiles of each input channel.
    """
    thinned = image[:, :, ::4, ::4].reshape(len(image), -1)
    levels = np.quantile(thinned, QUANTILES, axis=1).T
    return np.concatenate([*(maps.mean(axis=(0, 2, 3)) for maps in deepest), levels.ravel()]).astype(np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class Bank:
    """Standardised descriptions `rows` (n, d) of known studies; `centre` and `scale` (d,) standardise a new one."""

    rows: Array
    centre: Array
    scale: Array
    neighbours: int

    def distance(self, embedding: Array) -> float:
        """Return the distance, per square root of d, to the `neighbours`-th nearest known study."""
        place = (embedding - self.centre) / self.scale
        apart = np.sqrt(((self.rows - place) ** 2).mean(axis=1))
        return float(np.partition(apart, self.neighbours - 1)[self.neighbours - 1])

    def moved(self, change: Array) -> float:
        """Return by how much `distance` can differ at most where a description does by `change`."""
        return float(np.sqrt(((change / self.scale) ** 2).mean()))

    def save(self, path: Path) -> None:
        """Write the bank."""
        np.savez_compressed(
            path,
            rows=self.rows.astype(np.float16),
            centre=self.centre,
            scale=self.scale,
            neighbours=np.array(self.neighbours),
        )

    @classmethod
    def load(cls, path: Path) -> "Bank":
        """Read a bank.

        Raises:
            FatalError: the file is no bank.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise FatalError(f"{path.name} is no novelty bank; install the bundle anew") from error
        return cls.parse(content, path.name)

    @classmethod
    def parse(cls, content: bytes, name: str) -> "Bank":
        """Read a bank from the bytes of the file `name`.

        Raises:
            FatalError: they are no bank.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as stored:
                rows, centre, scale = (stored[name].astype(np.float32) for name in ("rows", "centre", "scale"))
                bank = cls(rows=rows, centre=centre, scale=scale, neighbours=int(stored["neighbours"]))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise FatalError(f"{name} is no novelty bank; install the bundle anew") from error
        if not 1 <= bank.neighbours <= len(rows):
            raise FatalError(f"{name} holds {len(rows)} studies, fewer than the neighbours it asks for")
        return bank
