"""What `POST /predict_multitask` answers: the shape of it, documented for machines, and how a prediction becomes it."""

import base64
import io
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from daemon.domain.finding import Answer, Doubt
from daemon.inference.predictor import Mode, Prediction
from daemon.results.sentence import spread
from daemon.results.wording import caution, recommendation

Probability = Annotated[float, Field(ge=0, le=1)]
Png = Annotated[str, Field(description="A PNG in base64.")]


class Part(BaseModel):
    """A part of the answer."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class ModelPart(Part):
    """The bundle that read the image."""

    name: str
    version: str
    digest: str = Field(description="SHA-256 of its SHA256SUMS.")
    title: str


class InputPart(Part):
    """The image, as it was understood; nothing of it is kept."""

    kind: str = Field(description="png, jpeg, nifti, nifti-gz or zip, by its first bytes.")
    sha256: str = Field(description="Of the upload.")
    shape: list[int] = Field(
        description="Rows and columns of a picture; slices, rows and columns of a volume. NIfTI's are put as the "
        "pictures show them: slices from the feet up, rows from the front, columns from the right."
    )
    spacing_mm: list[float] = Field(description="Of the same axes; of a picture as given or assumed.")
    assumptions: list[str] = Field(description="What was taken for granted because the file does not say it.")
    not_read: list[str] = Field(description="Of a zip, the series that were not read, and why.")


class SpreadPart(Part):
    """What the MC-dropout passes say of the tumour probability: the model's own spread."""

    sd: float
    low: Probability = Field(description="Mean less 1.96 SD.")
    high: Probability = Field(description="Mean plus 1.96 SD.")
    passes: int


class ReasonPart(Part):
    """Why a person should look."""

    code: Doubt
    sentence: str


class LesionPart(Part):
    """One lesion of a volume."""

    volume_ml: float
    volume_sd_ml: float
    longest_mm: float
    probability: Probability
    slices: list[int] = Field(description="The first and the last one, counted from 0, as in the input's shape.")


class TumourPart(Part):
    """How much is outlined."""

    voxels: int = Field(description="Pixels of a picture.")
    percent: float = Field(description="Share of the whole image, in percent; of all of it, not of the head.")
    area_mm2: float | None = Field(description="Of a picture whose pixel spacing was given.")
    volume_ml: float | None = Field(description="Of a volume.")
    volume_ml_low: float | None = Field(description="Where the volume lies in `volume_coverage` of studies like those")
    volume_ml_high: float | None = Field(description="of the calibration; null where the bundle states none.")
    volume_coverage: float | None
    lesions: list[LesionPart] = Field(description="Of a volume, the largest first.")


class SegmentationPart(Part):
    """The outline: voxels of at least `threshold` mean probability, small regions left out."""

    threshold: Probability
    shape: list[int] = Field(description="Of the mask; axes as the file has them, the last one fastest.")
    counts: list[int] = Field(description="Run lengths of the flattened mask, outside first: out, in, out, in, ...")
    key_slice: int | None = Field(
        description="Of a volume, the slice that `png` and the pictures show, counted as those of lesions."
    )
    png: Png = Field(description="Mask of a picture, or of the key slice as it is shown: 0 and 255.")


class PicturePart(Part):
    """A picture of the key slice, with the caution burned in."""

    name: str = Field(description="overlay, heat-map; in mode full also uncertainty and activation.")
    title: str
    png: Png


class PredictionAnswer(Part):
    """What the model says of an image. Research use only; not for diagnosis."""

    model: ModelPart
    input: InputPart
    mode: Mode
    tumour_probability: Probability
    spread: SpreadPart | None = Field(description="null in mode single: one pass says nothing of it.")
    label: Answer
    sentence: str = Field(description="The answer in words, as a report has it.")
    reasons: list[ReasonPart] = Field(description="Why it is uncertain, or needs review.")
    confidence: Probability | None = Field(
        description="Probability of the likelier side: p of tumour, or 1 - p; not how often the label is right. null "
        "where the image is unlike those of the training: it would mean nothing."
    )
    uncertainty: Probability | None = Field(description="Mean entropy of the outlined voxels, 1 knows nothing.")
    segmentation: SegmentationPart | None = Field(
        description="null below the model's threshold, or where no region is distinct; `segmentation_withheld` says."
    )
    segmentation_withheld: str
    tumour: TumourPart | None = Field(description="null where nothing is outlined.")
    pictures: list[PicturePart]
    recommendation: str
    disclaimer: str
    seconds: dict[str, float] = Field(description="What took how long.")


class Fault(BaseModel):
    """Why there is no answer."""

    model_config = ConfigDict(extra="forbid")

    error: str = Field(description="Cause and mend, in words.")
    reason: str = Field("", description="A coded reason where there is one, such as too-few-slices.")


def answer_of(prediction: Prediction) -> PredictionAnswer:
    """Return a prediction as it is sent."""
    findings, context = prediction.findings, prediction.context
    mean = findings.tumour_probability.mean
    full = prediction.mode is Mode.FULL
    return PredictionAnswer(
        model=_model(prediction),
        input=_input(prediction),
        mode=prediction.mode,
        tumour_probability=mean,
        spread=_spread(prediction) if full else None,
        label=findings.answer,
        sentence=prediction.sentence,
        reasons=[ReasonPart(code=doubt, sentence=doubt.sentence) for doubt in findings.uncertainty.doubts],
        confidence=None if Doubt.UNFAMILIAR in findings.uncertainty.doubts else max(mean, 1 - mean),
        uncertainty=findings.uncertainty.score if full else None,
        segmentation=_segmentation(prediction),
        segmentation_withheld=prediction.withheld,
        tumour=_tumour(prediction),
        pictures=[PicturePart(name=one.name, title=one.title, png=_png(one.pixels)) for one in prediction.snapshots()],
        recommendation=recommendation(findings),
        disclaimer=caution(research_use=context.research_use),
        seconds={step: round(taken, 3) for step, taken in prediction.reading.seconds.items()},
    )


def _model(prediction: Prediction) -> ModelPart:
    bundle = prediction.context.bundle
    ref = bundle.ref
    return ModelPart(name=ref.name, version=ref.version, digest=ref.digest, title=bundle.manifest.title)


def _input(prediction: Prediction) -> InputPart:
    grid = prediction.context.source.volume.grid
    axes = slice(1, 3) if prediction.kind.flat else slice(3)
    return InputPart(
        kind=prediction.kind.value,
        sha256=prediction.digest,
        shape=[*grid.size][axes],
        spacing_mm=[*grid.spacing][axes],
        assumptions=list(prediction.assumptions),
        not_read=list(prediction.context.unread),
    )


def _spread(prediction: Prediction) -> SpreadPart:
    findings = prediction.findings
    low, high = spread(findings.tumour_probability)
    return SpreadPart(sd=findings.tumour_probability.sd, low=low, high=high, passes=findings.passes)


def _segmentation(prediction: Prediction) -> SegmentationPart | None:
    mask = prediction.mask
    if mask is None:
        return None
    flat = prediction.kind.flat
    shown = mask if flat else (prediction.reading.labels[prediction.key_slice] > 0).astype(np.uint8)
    return SegmentationPart(
        threshold=prediction.context.bundle.manifest.calibration.mask_threshold,
        shape=list(mask.shape),
        counts=run_lengths(mask),
        key_slice=None if flat else prediction.key_slice,
        png=_png(shown * np.uint8(255)),
    )


def run_lengths(mask: NDArray[np.uint8]) -> list[int]:
    """Return the lengths of runs of 0 and 1 in turn, beginning with those of 0."""
    edges = np.flatnonzero(np.diff(mask.ravel(), prepend=np.uint8(0), append=mask.ravel()[-1] ^ 1))
    return [int(length) for length in np.diff(edges, prepend=0)]


def _tumour(prediction: Prediction) -> TumourPart | None:
    mask, findings = prediction.mask, prediction.findings
    if mask is None:
        return None
    grid, flat = prediction.context.source.volume.grid, prediction.kind.flat
    voxels, bounds = int(mask.sum()), None if flat else findings.volume_ml
    return TumourPart(
        voxels=voxels,
        percent=100 * voxels / mask.size,
        area_mm2=voxels * grid.spacing[1] * grid.spacing[2] if flat and prediction.scaled else None,
        volume_ml=None if flat else voxels * grid.voxel_ml,
        volume_ml_low=bounds and bounds.low,
        volume_ml_high=bounds and bounds.high,
        volume_coverage=bounds and bounds.coverage,
        lesions=[] if flat else [
            LesionPart(volume_ml=one.volume_ml, volume_sd_ml=one.volume_sd_ml, longest_mm=one.longest_mm,
                       probability=one.probability, slices=list(one.slices))
            for one in findings.lesions
        ],
    )  # fmt: skip


def _png(pixels: NDArray[np.uint8]) -> str:
    made = io.BytesIO()
    Image.fromarray(pixels).save(made, "PNG", compress_level=6)
    return base64.b64encode(made.getvalue()).decode()
