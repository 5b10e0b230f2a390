"""A training run's settings: one TOML file, read once."""

import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Self

import tomli_w
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from daemon.domain.model_bundle import Channel, Eligibility, Recipe, Target


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RealUse(StrEnum):
    """What real patients are for."""

    NONE = "none"
    ADAPT = "adapt"
    MEASURE = "measure"


class DataSettings(_Frozen):
    """How many synthetic studies of each set, whose seeds never meet, and what the real patients are for.

    `calibrate` 0 calibrates on `tune`; `hard` studies of each stratum. Real patients (image and mask pairs in
    `real_root`) join from the stage `adapt` on, drawn `real_weight` times as often as a synthetic one, or are only
    measured; `real_folds` cross-validates those that join.
    """

    kind: Literal["brain", "petct"]
    train: PositiveInt
    tune: PositiveInt
    test: PositiveInt
    shifted: NonNegativeInt = 0
    calibrate: NonNegativeInt = 0
    hard: NonNegativeInt = 0
    normal_fraction: float = 0.3
    real_root: str = ""
    real_use: RealUse = RealUse.NONE
    real_weight: PositiveInt = 1
    real_folds: NonNegativeInt = 0
    hazard_per_day: float = 1 / 900
    censor_days: float = 2200


class MixingSettings(_Frozen):
    """How the sources of the samples are drawn.

    `mixed` draws every sample alike, times its source's weight; `alternating` takes one source a batch, in turn;
    `single` takes only the source `only`. Weights of 0 leave a source out. A name stands for all sources that begin
    with it: "BraTS" for "BraTS FLAIR" and "BraTS T2".
    """

    mode: Literal["mixed", "alternating", "single"] = "mixed"
    weights: dict[str, NonNegativeFloat] = {}
    only: str = ""
    tumour_share: float = Field(0.6, ge=0, le=1)


class AugmentSettings(_Frozen):
    """Chance of each change of a crop; `strength` scales all of them (0: none).

    `flat` shows a slice in place of its neighbours too, as a picture does; `planes` a coronal or sagittal one so. Both
    are for slices, not for volumes.
    """

    strength: float = Field(1.0, ge=0)
    elastic: float = 0.25
    gamma: float = 0.3
    bias_field: float = 0.3
    noise: float = 0.2
    blur: float = 0.15
    low_resolution: float = 0.1
    anisotropy: float = 0.1
    flat: float = Field(0.0, ge=0, le=1)
    planes: float = Field(0.0, ge=0, le=1)


class NetworkSettings(_Frozen):
    """Size, regularisation and tasks of the network.

    One width a level, so their number is the depth. `spatial_dims` 2 reads slices (2-D with one neighbour, 2.5-D with
    more), 3 reads volumes.
    """

    widths: tuple[PositiveInt, ...] = Field((16, 32, 64, 128, 256), min_length=2, max_length=6)
    spatial_dims: Literal[2, 3] = 2
    encoder_convolutions: PositiveInt = 2
    decoder_convolutions: PositiveInt = 1
    attention: bool = False
    dropout: float = Field(0.1, ge=0, lt=1)
    survival_width: PositiveInt = 32
    do_seg: bool = True
    do_cls: bool = True
    do_surv: bool = True

    @property
    def multiple(self) -> int:
        """Return what each in-plane size (3-D: each size) must be a multiple of."""
        return int(2 ** (len(self.widths) - 1))

    @property
    def needs_map(self) -> bool:
        """Return whether a task needs the activation map: survival looks where it is high."""
        return self.do_cls or self.do_surv

    @model_validator(mode="after")
    def _some_task(self) -> Self:
        if not (self.do_seg or self.do_cls or self.do_surv):
            raise ValueError("no task is on; set at least one of do_seg, do_cls and do_surv to true")
        return self


class RateSettings(_Frozen):
    """Learning rates of the parts in joint fine-tuning, as shares of `learning_rate`."""

    encoder: NonNegativeFloat = 0.1
    decoder: NonNegativeFloat = 0.3
    heads: NonNegativeFloat = 1.0


class TaskWeights(_Frozen):
    """What each loss counts in the sum."""

    seg: NonNegativeFloat = 1.0
    cells: NonNegativeFloat = 0.5
    tumour: NonNegativeFloat = 0.5
    survival: NonNegativeFloat = 0.2


class StageSettings(_Frozen):
    """Steps and rates of the stages.

    `studies` whole studies join each joint step, `live_slices` slices of each through the living encoder.
    `validate_every` steps the tuning set is read at `tune_slices` slices a study; after `patience` readings without a
    better one the stage stops. 0 switches either off. `start` is the folder of an earlier run of the same network,
    whose warm-up this one goes on from.
    """

    start: str = ""
    crop: PositiveInt = 128
    crop_slices: PositiveInt = 32
    batch: PositiveInt = 16
    warmup_steps: NonNegativeInt = 3000
    adapt_steps: NonNegativeInt = 0
    joint_steps: NonNegativeInt = 1500
    head_epochs: NonNegativeInt = 60
    settle_epochs: NonNegativeInt = 20
    studies: NonNegativeInt = 2
    live_slices: PositiveInt = 4
    learning_rate: PositiveFloat = 1e-3
    head_learning_rate: PositiveFloat = 2e-3
    weight_decay: NonNegativeFloat = 1e-4
    rates: RateSettings = RateSettings()
    weights: TaskWeights = TaskWeights()
    ema: float = Field(0.998, ge=0, lt=1)
    clip: PositiveFloat = 1.0
    precision: Literal["bf16-mixed", "32-true"] = "bf16-mixed"
    workers: NonNegativeInt = 1
    log_every: PositiveInt = 10
    save_every: PositiveInt = 100
    validate_every: NonNegativeInt = 400
    tune_slices: PositiveInt = 12
    patience: NonNegativeInt = 6


class Span(_Frozen):
    """A hyper-parameter's range, or its choices."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    whole: bool = False
    choices: tuple[bool | int | float | str, ...] = ()

    @model_validator(mode="after")
    def _range_or_choices(self) -> Self:
        if (self.low is None or self.high is None) != bool(self.choices):
            raise ValueError("a search span has either low and high, or choices")
        return self


class SearchSettings(_Frozen):
    """Which settings a search varies, named by their dotted path, such as `stages.learning_rate`."""

    trials: PositiveInt = 20
    space: dict[str, Span] = {}


class BundleSettings(_Frozen):
    """What the sealed bundle says of itself, and how large it may be; `passes` are those of all members together."""

    name: str
    version: str
    title: str
    passes: int = 30
    min_lesion_ml: float = 0.3
    most_mb: PositiveFloat = 10.0


class CalibrationSettings(_Frozen):
    """Goals, and how sure to be of them.

    `fit_share` of the patients chooses scales and the mask threshold; the others, unseen by that choice, carry the
    guarantees. `sensitivity` of the tumour answer holds with probability 1 - `delta` for tumours of `sensitivity_ml` or
    more, and never counts any that the daemon would not outline. `mask` takes the shipped mask threshold by the best
    Dice, or the one that misses at most `missed_voxels` of a tumour on average. An outline of Dice below `good_dice`
    counts as failed. `novelty_coverage` of the studies like the calibration's pass unflagged.
    """

    scaling: Literal["platt", "temperature"] = "platt"
    voxel_scaling: Literal["platt", "temperature", "none"] = "platt"
    fit_share: float = Field(default=0.3, gt=0, lt=1)
    sensitivity: float = Field(default=0.98, gt=0, lt=1)
    sensitivity_ml: float = Field(default=0.0, ge=0)
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


class Goals(_Frozen):
    """What a model is to reach on a set of studies, at least; `c_index_share` is of the true hazard's C-index."""

    dice_mean: float | None = None
    auc: float | None = None
    sensitivity: float | None = None
    specificity: float | None = None
    c_index_share: float | None = None


class Settings(_Frozen):
    """A whole run; `goals` are named by the card's words for the data, and change nothing but the card."""

    seed: int
    threads: int = 2
    data: DataSettings
    mixing: MixingSettings = MixingSettings()
    augment: AugmentSettings = AugmentSettings()
    network: NetworkSettings = NetworkSettings()
    stages: StageSettings = StageSettings()
    search: SearchSettings = SearchSettings()
    bundle: BundleSettings
    recipe: Recipe
    eligibility: Eligibility
    target: Target
    calibration: CalibrationSettings = CalibrationSettings()
    sources: tuple[Origin, ...] = ()
    goals: dict[str, Goals] = {}

    @property
    def build(self) -> Path:
        """Return where the run keeps its cache, checkpoints and logs."""
        return Path("build") / f"{self.bundle.name}-{self.bundle.version}"

    @property
    def inputs(self) -> int:
        """Return the network's input channels."""
        return len(self.recipe.channels) * self.recipe.neighbours

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        multiple, stages = self.network.multiple, self.stages
        volumes = self.network.spatial_dims == 3
        if volumes and self.recipe.neighbours != 1:
            raise ValueError("a 3-D network sees neighbours by itself; set recipe.neighbours = 1")
        if stages.crop % multiple or (volumes and stages.crop_slices % multiple):
            raise ValueError(f"crops must be multiples of {multiple} with {len(self.network.widths)} levels")
        if volumes and self.augment.flat + self.augment.planes:
            raise ValueError("augment.flat and augment.planes show slices alone; set both to 0 for a 3-D network")
        if self.augment.flat + self.augment.planes > 1:
            raise ValueError("augment.flat and augment.planes are shares of the crops; their sum is at most 1")
        if self.recipe.multiple % multiple:
            raise ValueError(f"recipe.multiple must be a multiple of {multiple} with {len(self.network.widths)} levels")
        return self

    def save(self, path: Path) -> None:
        """Write the settings as TOML, so that a run tells what it was."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(tomli_w.dumps(self.model_dump(mode="json", exclude_none=True)), encoding="utf-8")

    def changed(self, changes: dict[str, Any]) -> "Settings":
        """Return the settings with values at dotted paths replaced and everything checked anew.

        Raises:
            ValueError: a path names no setting, or a value is not allowed there.
        """
        document = self.model_dump()
        for path, value in changes.items():
            *tables, key = path.split(".")
            table = document
            for name in tables:
                table = table.get(name, {})
            if key not in table:
                raise ValueError(f"{path} is no setting; write it as in the settings file, such as network.dropout")
            table[key] = value
        return Settings.model_validate(document)


def load(path: Path, start: Path | None = None) -> Settings:
    """Return the settings in `path`, going on from the warm-up of the run in `start` where one is given.

    Raises:
        pydantic.ValidationError: a key is missing, unknown or of the wrong type.
        ValueError: it is no TOML.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no settings file: {error}") from error
    settings = Settings.model_validate(document)
    return settings if start is None else settings.changed({"stages.start": str(start)})


__all__ = [
    "AugmentSettings",
    "BundleSettings",
    "CalibrationSettings",
    "Channel",
    "DataSettings",
    "Goals",
    "MixingSettings",
    "NetworkSettings",
    "Origin",
    "RealUse",
    "Settings",
    "Span",
    "StageSettings",
    "load",
]
