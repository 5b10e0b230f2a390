"""A training run's settings: one TOML file, read once."""

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from daemon.domain.model_bundle import Channel, Eligibility, Recipe, Target


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSettings(_Frozen):
    """How many studies of each kind; seeds of the three splits never meet."""

    kind: Literal["brain", "petct"]
    train: int
    tune: int
    test: int
    normal_fraction: float = 0.3
    real_root: str = ""
    real_held_out: tuple[str, ...] = ()
    hazard_per_day: float = 1 / 900
    censor_days: float = 2200


class NetworkSettings(_Frozen):
    """Size and regularisation of the network."""

    widths: tuple[int, int, int, int, int] = (16, 32, 64, 128, 256)
    dropout: float = 0.1
    survival_width: int = 32


class StageSettings(_Frozen):
    """Steps and rates of the stages."""

    crop: int = 128
    batch: int = 16
    warmup_steps: int = 3000
    joint_steps: int = 1500
    head_epochs: int = 60
    learning_rate: float = 1e-3
    ema: float = 0.998
    clip: float = 1.0


class BundleSettings(_Frozen):
    """What the sealed bundle says of itself."""

    name: str
    version: str
    title: str
    passes: int = 30
    min_lesion_ml: float = 0.3


class CalibrationSettings(_Frozen):
    """Goals, and how sure to be of them.

    `fit_share` of the patients chooses scales and the mask threshold; the others, unseen by that choice, carry the
    guarantees. `sensitivity` of the tumour answer holds with probability 1 - `delta`. `mask` takes the shipped mask
    threshold by the best Dice, or the one that misses at most `missed_voxels` of a tumour on average. An outline of
    Dice below `good_dice` counts as failed. `novelty_coverage` of the studies like the calibration's pass unflagged.
    """

    scaling: Literal["platt", "temperature"] = "platt"
    voxel_scaling: Literal["platt", "temperature", "none"] = "platt"
    fit_share: float = Field(default=0.3, gt=0, lt=1)
    sensitivity: float = Field(default=0.98, gt=0, lt=1)
    delta: float = Field(default=0.1, gt=0, lt=1)
    uncertain_band: float = Field(default=0.1, ge=0, lt=1)
    mask: Literal["dice", "missed-voxels"] = "dice"
    missed_voxels: float = Field(default=0.1, gt=0, lt=1)
    volume_coverage: float = Field(default=0.9, gt=0, lt=1)
    good_dice: float = Field(default=0.6, gt=0, lt=1)
    novelty_coverage: float = Field(default=0.99, gt=0, lt=1)
    neighbours: int = Field(default=3, ge=1)


class Origin(_Frozen):
    """A data set with its licence; samples whose source begins with `prefix` are of it."""

    prefix: str
    name: str
    licence: str
    doi: str = ""


class Settings(_Frozen):
    """A whole run."""

    seed: int
    threads: int = 2
    data: DataSettings
    network: NetworkSettings = NetworkSettings()
    stages: StageSettings = StageSettings()
    bundle: BundleSettings
    recipe: Recipe
    eligibility: Eligibility
    target: Target
    calibration: CalibrationSettings = CalibrationSettings()
    sources: tuple[Origin, ...] = ()

    @property
    def build(self) -> Path:
        """Return where the run keeps its cache, checkpoints and logs."""
        return Path("build") / f"{self.bundle.name}-{self.bundle.version}"


def load(path: Path) -> Settings:
    """Return the settings in `path`.

    Raises:
        pydantic.ValidationError: a key is missing, unknown or of the wrong type.
    """
    return Settings.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))


__all__ = [
    "BundleSettings",
    "CalibrationSettings",
    "Channel",
    "DataSettings",
    "NetworkSettings",
    "Origin",
    "Settings",
    "StageSettings",
    "load",
]
