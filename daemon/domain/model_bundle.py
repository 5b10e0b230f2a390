"""A model bundle's manifest: what it reads, how the input is prepared, how its numbers are calibrated."""

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Self

from pydantic import ConfigDict, TypeAdapter

from daemon.domain.drift import Quantity, Spread


class Normalisation(StrEnum):
    """How a channel's voxels become model input."""

    FOREGROUND_ZSCORE = "foreground-zscore"
    WINDOW = "window"


class Strict:
    """Tells pydantic that a misspelt key is an error, not a comment."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True)
class Channel(Strict):
    """One input channel: `role` is MR, PET or CT.

    WINDOW maps `low`..`high` (SUV or HU) linearly to 0..1 and clips. FOREGROUND_ZSCORE subtracts the mean and
    divides by the standard deviation of the foreground (voxels above Otsu's threshold of the volume), clips to
    `low`..`high`; background keeps its own z-score.
    """

    role: str
    normalisation: Normalisation
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Recipe(Strict):
    """Preprocessing, the same in training and in the daemon.

    `spacing` is (slice, row, column) in mm of the axis-aligned LPS model grid; `neighbours` odd slices become
    channels; in-plane size is padded to a multiple of `multiple`.
    """

    spacing: tuple[float, float, float]
    neighbours: int
    multiple: int
    channels: tuple[Channel, ...]


@dataclass(frozen=True, kw_only=True)
class Eligibility(Strict):
    """Which series a bundle reads.

    `sequences` lists MR contrasts from most to least preferred (FLAIR, T2, T1C, T1); empty for PET/CT.
    `body_parts` are accepted Body Part Examined values, upper case; an absent body part is accepted.
    """

    modalities: tuple[str, ...]
    body_parts: tuple[str, ...]
    sequences: tuple[str, ...] = ()
    min_slices: int
    max_slice_gap_mm: float


@dataclass(frozen=True, kw_only=True)
class Graphs(Strict):
    """File names of the ONNX graphs beside the manifest."""

    encoder: str
    decoder: str
    heads: str

    @property
    def files(self) -> tuple[str, str, str]:
        """Return the three names."""
        return self.encoder, self.decoder, self.heads


@dataclass(frozen=True, kw_only=True)
class Dropout(Strict):
    """Channel dropout whose masks are graph inputs: mask name to channel count.

    `passes` are those of all members together, each as many.
    """

    rate: float
    passes: int
    decoder_masks: dict[str, int]
    head_masks: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Calibration(Strict):
    """Numbers fitted on the shipped, quantised model.

    Tumour probability is sigmoid(platt_slope * logit + platt_intercept). `threshold` decides; between
    `uncertain_low` and `uncertain_high` the answer is uncertain. `mask_threshold` cuts the mean voxel
    probability. `explore_threshold` bounds the region where MC passes run. `entropy_limit` flags the outline.

    Survival was not fitted to any follow-up where `risk_cuts` and `risk_centre` are all 0: a fit centres the risk at
    the cohort's mean. `baseline_survival` may be empty all the same, where follow-up was shorter than a year.

    The rest may be absent. Voxel probability is sigmoid(voxel_slope * logit + voxel_intercept). The true volume t of
    an outline of v ml has |ln((t + 1) / (v + 1))| <= `volume_log_spread` with probability `volume_coverage`; infinite
    states no interval. `novelty_limit` flags a study that is further than that from what was trained on.
    """

    platt_slope: float
    platt_intercept: float
    threshold: float
    uncertain_low: float
    uncertain_high: float
    mask_threshold: float
    explore_threshold: float
    min_lesion_ml: float
    entropy_limit: float
    probability_sd_limit: float
    risk_cuts: tuple[float, float]
    baseline_survival: dict[int, float]
    risk_centre: float
    voxel_slope: float = 1.0
    voxel_intercept: float = 0.0
    volume_log_spread: float = math.inf
    volume_coverage: float = 0.9
    novelty_limit: float = math.inf

    @property
    def survival_fitted(self) -> bool:
        """Return whether risk, its class and survival mean anything."""
        return any((*self.risk_cuts, self.risk_centre))


@dataclass(frozen=True, kw_only=True)
class Target(Strict):
    """What the segment means: (code value, scheme, meaning) triples, SNOMED CT unless said otherwise."""

    category: tuple[str, str, str]
    type: tuple[str, str, str]
    region: tuple[str, str, str]
    procedure: tuple[str, str, str]
    label: str


@dataclass(frozen=True, kw_only=True)
class Manifest(Strict):
    """`bundle.toml`, whole.

    `graphs` are those of the first member, `more_graphs` those of an ensemble's others: networks of one shape that were
    trained from other seeds. `novelty` is the file of the novelty bank, empty where the bundle has none. `spreads` are
    those of the calibration's studies, by which drift is told; without them the site's first answers are.
    """

    name: str
    version: str
    title: str
    licence: str
    opset: int
    onnxruntime: str
    quantisation: str
    eligibility: Eligibility
    recipe: Recipe
    graphs: Graphs
    dropout: Dropout
    calibration: Calibration
    target: Target
    novelty: str = ""
    more_graphs: tuple[Graphs, ...] = ()
    spreads: dict[Quantity, Spread] = field(default_factory=dict)

    @property
    def members(self) -> tuple[Graphs, ...]:
        """Return the graphs of every member; those of one network are an ensemble of one."""
        return (self.graphs, *self.more_graphs)

    @classmethod
    def parse(cls, document: dict[str, object]) -> Self:
        """Validate a parsed `bundle.toml`.

        Raises:
            pydantic.ValidationError: a field is missing, unknown or of the wrong type.
        """
        return TypeAdapter(cls).validate_python(document)


def folders(members: int) -> tuple[str, ...]:
    """Return where in a bundle each member's files are: the first's at its top, the others' in folders of their own."""
    return ("", *(f"member-{number}/" for number in range(2, members + 1)))


@dataclass(frozen=True, kw_only=True)
class BundleRef:
    """Which bundle made a result: name, version and the SHA-256 of its SHA256SUMS file."""

    name: str
    version: str
    digest: str


# Of what no bundle was chosen for.
NO_BUNDLE = BundleRef(name="", version="", digest="")


@dataclass(frozen=True, kw_only=True)
class InstalledBundle:
    """A bundle that can be run: who it is and what it reads."""

    ref: BundleRef
    manifest: Manifest
