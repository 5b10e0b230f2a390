"""What an evaluation holds: the schema of metrics.json. No number in it is NaN or infinite."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = 3
Origin = Literal["real", "synthetic"]


class Frozen(BaseModel):
    """A value that is whole and finite once made."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Measure(Frozen):
    """A number over `n` studies, or patients where each counts once, with its 95 % bootstrap interval.

    Where it cannot be computed `value` is None and `missing` completes "cannot be computed because".
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int
    missing: str = ""


class Spread(Frozen):
    """Mean and median over studies."""

    mean: Measure
    median: Measure


class Overlap(Frozen):
    """One study's outline against its mask; None where both are empty.

    Lesions are 26-connected; one is found, or right, where a voxel of it lies in the other mask (autoPET, Gatidis
    2022).
    """

    dice: float | None
    iou: float | None
    hd95_mm: float | None
    surface_dice: float | None
    boundary_f: float | None
    true_ml: float
    outlined_ml: float
    false_negative_ml: float
    false_positive_ml: float
    true_lesions: int
    found_lesions: int
    outlined_lesions: int
    right_lesions: int


class Quality(Frozen):
    """One study's candidate scores of doubt; higher is more doubtful, so a poor outline should have a high one."""

    mean_entropy: float
    mutual_information: float
    entropy_per_outline: float
    entropy_per_boundary: float
    volume_cv: float
    expected_dice_loss: float


class Study(Frozen):
    """One study: its truth, its answer and its scores."""

    name: str
    source: str
    strata: tuple[str, ...]
    tumour: int | None
    probability: float
    answer: str
    flagged: bool
    risk: float | None
    overlap: Overlap | None
    quality: Quality


class Segmentation(Frozen):
    """Outlines against masks.

    The first six run over studies with a tumour in the mask; `dice_any` and `hd95_any_mm` also count false alarms.
    """

    dice: Spread
    iou: Spread
    hd95_mm: Spread
    surface_dice: Spread
    boundary_f: Spread
    relative_volume_error: Spread
    dice_any: Spread
    hd95_any_mm: Spread
    volume_error_ml: Spread
    absolute_volume_error_ml: Spread
    false_negative_ml: Spread
    false_positive_ml: Spread
    lesion_sensitivity: Measure
    lesion_precision: Measure
    lesion_f1: Measure
    missed_studies: Measure
    false_alarm_studies: Measure


class Confusion(Frozen):
    """Counts at the bundle's threshold."""

    true_positive: int
    false_positive: int
    true_negative: int
    false_negative: int


class Detection(Frozen):
    """Tumour or none, per study, at the bundle's threshold; the areas need no threshold."""

    confusion: Confusion
    accuracy: Measure
    precision: Measure
    recall: Measure
    specificity: Measure
    f1: Measure
    roc_auc: Measure
    pr_auc: Measure


class Ranking(Frozen):
    """How well a risk orders patients: Harrell's and Uno's C, and the integrated Brier score up to five years."""

    name: str
    harrell: Measure
    uno: Measure
    integrated_brier: Measure
    gain_of_model: Measure


class YearGroup(Frozen):
    """Predicted and observed (Kaplan-Meier) survival of one third of predicted survival."""

    n: int
    predicted: float
    observed: float
    low: float
    high: float


class YearCalibration(Frozen):
    """Predicted against observed survival at `years`; `difference` is predicted minus observed."""

    years: int
    predicted: Measure
    observed: Measure
    difference: Measure
    groups: tuple[YearGroup, ...]


class RiskGroup(Frozen):
    """One of the bundle's risk classes; the median is None where fewer than half died."""

    name: str
    n: int
    deaths: int
    median_days: float | None


class Survival(Frozen):
    """Survival risk; `missing` completes "cannot be computed because" where there is no follow-up to measure on."""

    patients: int
    deaths: int
    missing: str
    rankings: tuple[Ranking, ...]
    share_of_oracle: Measure
    years: tuple[YearCalibration, ...]
    groups: tuple[RiskGroup, ...]
    log_rank_p: Measure


class Bin(Frozen):
    """One bin of a reliability diagram."""

    count: int
    predicted: float
    observed: float


class Reliability(Frozen):
    """Calibration of a probability: ECE over equal bins (Naeini 2015), adaptive over equal counts (Nixon 2019)."""

    ece: Measure
    adaptive_ece: Measure
    bins: tuple[Bin, ...]


class QualityRow(Frozen):
    """How well one score of doubt tells poor outlines.

    `failure_auroc` finds Dice below .6; `aurc` is the area under risk (1 - Dice) against coverage (Geifman 2017),
    `excess_aurc` what it is above a perfect ordering; `correlation` is Spearman's with 1 - Dice.
    """

    name: str
    failure_auroc: Measure
    aurc: Measure
    excess_aurc: Measure
    correlation: Measure


class Uncertainty(Frozen):
    """Whether the model's doubt can be trusted.

    `voxel` pools voxels where the model found tumour conceivable, `all_voxels` all of them. `best` is the score with
    the highest failure-AUROC (of equal ones the lowest AURC), "" where no study failed or all did.
    `entropy_error_correlation` is Pearson's, per study, between voxel entropy and voxel error where tumour was
    conceivable or marked.
    """

    study: Reliability
    study_brier: Measure
    voxel: Reliability
    all_voxels: Reliability
    failures: int
    judged: int
    best: str
    scores: tuple[QualityRow, ...]
    entropy_error_correlation: Spread


class Band(Frozen):
    """Studies that got one kind of answer, how they turned out, and what that means for the reader."""

    name: str
    rule: str
    studies: int
    right: Measure
    dice: Measure
    failed: Measure
    recommendation: str


class Group(Frozen):
    """The main numbers of one source or stratum."""

    kind: Literal["source", "stratum"]
    name: str
    studies: int
    patients: int
    dice: Spread
    hd95_mm: Spread
    surface_dice: Spread
    lesion_f1: Measure
    roc_auc: Measure
    recall: Measure
    specificity: Measure
    harrell: Measure


class Data(Frozen):
    """What was measured on: counts of studies, but `patients`, `follow_up` and `deaths` of patients."""

    studies: int
    patients: int
    tumour: int
    no_tumour: int
    unlabelled: int
    masks: int
    follow_up: int
    deaths: int
    covariates: tuple[str, ...]


class Part(Frozen):
    """Everything about studies of one origin; real and synthetic studies are never pooled."""

    origin: Origin
    data: Data
    segmentation: Segmentation
    detection: Detection
    survival: Survival
    uncertainty: Uncertainty
    bands: tuple[Band, ...]
    groups: tuple[Group, ...]
    studies: tuple[Study, ...]


class Subject(Frozen):
    """The model, as far as its calibration file tells; `digest` is empty of an unsealed one."""

    name: str
    version: str
    title: str
    digest: str
    reads: str
    passes: int | None
    members: int = 1
    quantisation: str
    threshold: float
    mask_threshold: float
    min_lesion_ml: float


class Options(Frozen):
    """How to measure; `tolerance_mm` of surface Dice and boundary F is the coarsest voxel edge where None."""

    tolerance_mm: float | None = None
    resamples: int = 1000
    seed: int = 0


class Metrics(Frozen):
    """A whole evaluation."""

    schema_version: int = SCHEMA_VERSION
    subject: Subject
    options: Options
    failure_dice: float
    parts: tuple[Part, ...]
