"""What the model found, as numbers with their uncertainty; arrays stay outside."""

from dataclasses import dataclass, field
from enum import StrEnum

from daemon.domain.provider import Provider


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean and standard deviation over the MC-dropout passes."""

    mean: float
    sd: float


class Answer(StrEnum):
    """The kinds of answer a study can get; there is always one."""

    LIKELY = "tumour-likely"
    NOT_LIKELY = "tumour-not-likely"
    UNCERTAIN = "uncertain"
    NOT_PROCESSED = "not-processed"


class Doubt(StrEnum):
    """Why a person should look: a closed list; the value is the code, `sentence` what is read."""

    BAND = "BAND"
    DISAGREEMENT = "DISAGREEMENT"
    NO_OUTLINE = "NO-OUTLINE"
    STRAY_OUTLINE = "STRAY-OUTLINE"
    VAGUE_OUTLINE = "VAGUE-OUTLINE"
    UNFAMILIAR = "UNFAMILIAR"

    @property
    def sentence(self) -> str:
        """Return the doubt in plain words."""
        return {
            Doubt.BAND: "the tumour probability lies in the uncertain band",
            Doubt.DISAGREEMENT: "the passes disagree on the tumour probability",
            Doubt.NO_OUTLINE: "a tumour is likely but no region could be outlined",
            Doubt.STRAY_OUTLINE: "a region was outlined although a tumour is not likely",
            Doubt.VAGUE_OUTLINE: "the outline is uncertain",
            Doubt.UNFAMILIAR: "the images are unlike those that the model was trained on",
        }[self]


class RiskClass(StrEnum):
    """Survival risk in thirds of the training cohort."""

    LOW = "low"
    MODERATE = "moderate"
    HIGH = "high"


@dataclass(frozen=True, kw_only=True)
class Uptake:
    """PET numbers of one lesion: SUV in g/ml, MTV in ml, TLG in g/ml·ml.

    SUVpeak is the highest mean over a 1 ml sphere (Wahl 2009, PERCIST).
    """

    suv_max: float
    suv_mean: float
    suv_peak: float
    mtv_ml: float
    tlg: float


@dataclass(frozen=True, kw_only=True)
class Lesion:
    """One connected component of the outline on the source grid; `number` counts from 1.

    `centre_mm` and `bounds_mm` (low corner, high corner) are LPS patient coordinates;
    `slices` are the first and last source slice indices that hold it, `key_slice` the largest.
    """

    number: int
    volume_ml: float
    volume_sd_ml: float
    longest_mm: float
    centre_mm: tuple[float, float, float]
    bounds_mm: tuple[tuple[float, float, float], tuple[float, float, float]]
    slices: tuple[int, int]
    key_slice: int
    probability: float
    uptake: Uptake | None = None


@dataclass(frozen=True, kw_only=True)
class Uncertainty:
    """How unsure the model is.

    `score` in 0..1 is the size-normalised predictive entropy of the outline; `flag` asks for review, `doubts` say why.
    """

    score: float
    flag: bool
    doubts: tuple[Doubt, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Where the true value lies with probability `coverage`, over studies like those of the calibration."""

    low: float
    high: float
    coverage: float


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All numbers of one study's answer.

    `survival_risk` and `risk_class` are None, and `survival` is empty, where the bundle's survival was not fitted.
    `survival` maps years (1, 2, 5) to the probability of being alive then. `volume_ml` bounds the volume of all lesions
    together, None where nothing is outlined or the bundle states no interval. `novelty` is how unlike the training the
    study is, None where the bundle cannot tell. `provider` is what the bundle ran on.
    """

    answer: Answer
    tumour_probability: Estimate
    survival_risk: Estimate | None
    risk_class: RiskClass | None
    survival: dict[int, Estimate]
    uncertainty: Uncertainty
    lesions: tuple[Lesion, ...] = field(default=())
    volume_ml: Interval | None = None
    novelty: float | None = None
    passes: int
    seed: int
    provider: Provider = Provider.CPU
