"""Parametric Maps: a number for every voxel on the source grid (PS3.3 A.75)."""

from dataclasses import dataclass

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from daemon.domain.codes import RATIO, VOXEL_ENTROPY, VOXEL_PROBABILITY, Concept
from daemon.imaging.reading import Reading
from daemon.results.common import coded, derive_dimensions, maker, source_headers, stamp, triple
from daemon.results.context import PROBABILITY_SERIES_NUMBER, UNCERTAINTY_SERIES_NUMBER, ResultContext
from daemon.results.picture import uncertainty
from daemon.uids import Role

PROBABILITY_LABEL = "PROBABILITY"


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """What a map is of: its words, its quantity, and what its series and object are derived from."""

    words: str
    quantity: Concept
    label: str
    series: Role
    role: Role
    number: int


_UNCERTAINTY = _Kind(
    words="uncertainty",
    quantity=VOXEL_ENTROPY,
    label="ENTROPY",
    series=Role.UNCERTAINTY_SERIES,
    role=Role.UNCERTAINTY,
    number=UNCERTAINTY_SERIES_NUMBER,
)
_PROBABILITY = _Kind(
    words="probability",
    quantity=VOXEL_PROBABILITY,
    label=PROBABILITY_LABEL,
    series=Role.PROBABILITY_SERIES,
    role=Role.PROBABILITY,
    number=PROBABILITY_SERIES_NUMBER,
)


def build_uncertainty(context: ResultContext, reading: Reading) -> list[Dataset]:
    """Return the map of the doubt: 0 is sure, 1 knows nothing."""
    return [_built(context, uncertainty(reading), _UNCERTAINTY)]


def build_probability(context: ResultContext, reading: Reading) -> list[Dataset]:
    """Return the map of the mean probability over the passes that a voxel is tumour."""
    return [_built(context, reading.probability, _PROBABILITY)]


def _built(context: ResultContext, values: NDArray[np.float32], kind: _Kind) -> Dataset:
    """Return a map of 32-bit floats from 0 to 1, frames from the low end along the normal.

    Linear exact, because a plain linear window of width 1 shows nothing (PS3.3 C.11.2.1.2.1); Frame Anatomy is shared,
    and frames ascend, because common readers fail or show the map upside down otherwise.
    """
    grid = context.source.volume.grid
    made = hd.pm.ParametricMap(
        source_images=source_headers(context),
        pixel_array=values,
        plane_positions=[
            # The slices' own, to the digit: highdicom names a frame's source only where they are equal.
            hd.PlanePositionSequence("PATIENT", [float(f"{v:.10g}") for v in frame.position])
            for frame in context.source.frames
        ],
        series_instance_uid=context.uid(kind.series),
        series_number=context.series_number(kind.number),
        sop_instance_uid=context.uid(kind.role),
        instance_number=1,
        **maker(context),
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[_mapping(kind)],
        voi_lut_transformations=[
            hd.VOILUTTransformation(window_center=0.5, window_width=1.0, voi_lut_function="LINEAR_EXACT")
        ],
        content_label=kind.words.upper(),
        content_description=context.words(kind.words),
        series_description=context.words(kind.words),
    )
    stamp(made, context)
    derive_dimensions(made, context.uid(Role.DIMENSIONS, kind.words))
    made.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [_anatomy(context)]
    _ascend(made, np.array(grid.axes[0]))
    return made


def _ascend(made: Dataset, normal: NDArray[np.float64]) -> None:
    """Put the frames in the order in which they lie along the normal; highdicom has an order of its own."""
    groups = list(made.PerFrameFunctionalGroupsSequence)
    along = [float(normal @ np.array(g.PlanePositionSequence[0].ImagePositionPatient, dtype=float)) for g in groups]
    order = np.argsort(along)
    frames = np.frombuffer(made.FloatPixelData, dtype="<f4").reshape(len(groups), -1)
    made.FloatPixelData = np.ascontiguousarray(frames[order]).tobytes()
    made.PerFrameFunctionalGroupsSequence = [groups[place] for place in order]
    for number, group in enumerate(made.PerFrameFunctionalGroupsSequence, start=1):
        group.FrameContentSequence[0].DimensionIndexValues = [number]


def _mapping(kind: _Kind) -> hd.pm.RealWorldValueMapping:
    return hd.pm.RealWorldValueMapping(
        lut_label=kind.label,
        lut_explanation=kind.quantity.meaning,
        unit=coded(RATIO),
        value_range=(0.0, 1.0),
        slope=1.0,
        intercept=0.0,
        quantity_definition=coded(kind.quantity),
    )


def _anatomy(context: ResultContext) -> Dataset:
    """Return Frame Anatomy (PS3.3 C.7.6.16.2.8); which side is not known."""
    anatomy = Dataset()
    anatomy.AnatomicRegionSequence = [triple(context.bundle.manifest.target.region)]
    anatomy.FrameLaterality = "U"
    return anatomy
