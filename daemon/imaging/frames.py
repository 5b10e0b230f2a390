"""Frames of single-frame and multi-frame instances on equal terms: where each lies and how to read its values."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from daemon.domain.reasons import Reason
from daemon.errors import UnprocessableError


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """One frame: `position` (x, y, z) mm, `orientation` row then column cosines, `spacing` (row, column) mm.

    `index` counts from 0 in its instance; `multiframe` tells whether a frame number belongs in a reference. The header
    ends at octet `pixels_at` of the file; None where the file is not what was parsed.
    """

    path: Path
    header: Dataset
    index: int
    multiframe: bool
    position: NDArray[np.float64]
    orientation: NDArray[np.float64]
    spacing: NDArray[np.float64]
    slope: float
    intercept: float
    pixels_at: int | None = None


def frames_of(path: Path, header: Dataset, pixels_at: int | None) -> Iterator[Frame]:
    """Yield the frames of an instance (PS3.3 C.7.6.2, C.7.6.16).

    Raises:
        UnprocessableError: position, orientation or spacing is absent.
    """
    if "PerFrameFunctionalGroupsSequence" in header:
        yield from _enhanced(path, header)
        return
    if int(header.get("NumberOfFrames") or 1) > 1:
        raise UnprocessableError(Reason.NO_GEOMETRY, f"instance {_name(header)} has frames without functional groups")
    yield Frame(
        path=path,
        header=header,
        index=0,
        multiframe=False,
        position=_numbers(header, header, "ImagePositionPatient", 3),
        orientation=_numbers(header, header, "ImageOrientationPatient", 6),
        spacing=_numbers(header, header, "PixelSpacing", 2),
        slope=float(header.get("RescaleSlope") or 1),
        intercept=float(header.get("RescaleIntercept") or 0),
        pixels_at=pixels_at,
    )


def normal(orientation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return row cosines x column cosines, the direction in which slices stack."""
    return np.asarray(np.cross(orientation[:3], orientation[3:]))


def _enhanced(path: Path, header: Dataset) -> Iterator[Frame]:
    shared = (header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    for index, groups in enumerate(header.PerFrameFunctionalGroupsSequence):
        transformation = _group((groups, shared), "PixelValueTransformationSequence")
        yield Frame(
            path=path,
            header=header,
            index=index,
            multiframe=True,
            position=_numbers(header, _group((groups, shared), "PlanePositionSequence"), "ImagePositionPatient", 3),
            orientation=_numbers(
                header, _group((groups, shared), "PlaneOrientationSequence"), "ImageOrientationPatient", 6
            ),
            spacing=_numbers(header, _group((groups, shared), "PixelMeasuresSequence"), "PixelSpacing", 2),
            slope=float(transformation.get("RescaleSlope") or 1),
            intercept=float(transformation.get("RescaleIntercept") or 0),
        )


def _group(places: Sequence[Dataset], keyword: str) -> Dataset:
    for place in places:
        if place.get(keyword):
            item: Dataset = place[keyword].value[0]
            return item
    return Dataset()


def _numbers(header: Dataset, place: Dataset, keyword: str, count: int) -> NDArray[np.float64]:
    values = place.get(keyword)
    if values is None or len(values) != count:
        raise UnprocessableError(Reason.NO_GEOMETRY, f"instance {_name(header)} has no {keyword}")
    return np.array([float(v) for v in values])


def _name(header: Dataset) -> str:
    return str(header.get("SOPInstanceUID", "without UID"))
