"""Bundles as machines read them: who they are, how they decide, what their cards measured."""

from itertools import pairwise
from typing import Annotated

from markdown_it import MarkdownIt
from pydantic import BaseModel, ConfigDict, Field

from daemon.inference.bundle import Bundle

_CARD = "card.md"
_FIGURES = "figures"


class Thresholds(BaseModel):
    """How a bundle decides; probabilities of 0 to 1."""

    model_config = ConfigDict(extra="forbid")

    tumour: float = Field(description="From here on a tumour is likely, and an outline is given.")
    uncertain_low: float = Field(description="From here on the answer is uncertain,")
    uncertain_high: float = Field(description="and from here on it is not.")
    outline: float = Field(description="Voxels of at least this mean probability are outlined.")
    least_lesion_ml: float
    probability_sd_limit: float = Field(description="Passes that differ by more than this disagree.")
    outline_entropy_limit: float
    novelty_limit: float | None = Field(description="null where the bundle knows no training studies.")


class BundleInfo(BaseModel):
    """An installed model bundle."""

    model_config = ConfigDict(extra="forbid")

    name: str
    version: str
    digest: str
    title: str
    signature: str
    licence: str
    quantisation: str
    passes: int = Field(description="MC-dropout passes, unless inference.passes says otherwise.")
    modalities: list[str]
    body_parts: list[str]
    sequences: list[str]
    thresholds: Thresholds
    figures: Annotated[list[dict[str, str]], Field(description="The rows of the card's table of figures, by column.")]


def info_of(bundle: Bundle) -> BundleInfo:
    """Return what a bundle is."""
    manifest, ref = bundle.manifest, bundle.ref
    calibration, eligibility = manifest.calibration, manifest.eligibility
    card = bundle.content(_CARD).decode() if (bundle.path / _CARD).is_file() else ""
    return BundleInfo(
        name=ref.name,
        version=ref.version,
        digest=ref.digest,
        title=manifest.title,
        signature=bundle.signature,
        licence=manifest.licence,
        quantisation=manifest.quantisation,
        passes=manifest.dropout.passes,
        modalities=list(eligibility.modalities),
        body_parts=list(eligibility.body_parts),
        sequences=list(eligibility.sequences),
        thresholds=Thresholds(
            tumour=calibration.threshold,
            uncertain_low=calibration.uncertain_low,
            uncertain_high=calibration.uncertain_high,
            outline=calibration.mask_threshold,
            least_lesion_ml=calibration.min_lesion_ml,
            probability_sd_limit=calibration.probability_sd_limit,
            outline_entropy_limit=calibration.entropy_limit,
            novelty_limit=calibration.novelty_limit if manifest.novelty else None,
        ),
        figures=figures(card),
    )


def figures(card: str) -> list[dict[str, str]]:
    """Return the rows of the first table below the heading that begins with "Figures"; none where there is none."""
    tokens = MarkdownIt("commonmark").enable("table").parse(card)
    rows: list[list[str]] = []
    inside = heading = False
    for token, after in pairwise(tokens):
        if token.type == "heading_open":
            heading = inside = after.content.lower().startswith(_FIGURES)
        elif inside and token.type == "tr_open":
            rows.append([])
        elif inside and token.type in {"th_open", "td_open"}:
            rows[-1].append(after.content)
        elif heading and token.type == "table_close":
            break
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
