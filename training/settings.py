"""A training run's settings: one TOML file, read once."""

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

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


__all__ = ["BundleSettings", "Channel", "DataSettings", "NetworkSettings", "Settings", "StageSettings", "load"]
