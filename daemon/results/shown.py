"""The source as highdicom is shown it, which wants of every header what the standard asks; few scanners give it all."""

from collections.abc import Sequence

from pydicom.dataset import Dataset

from daemon.imaging.read import SourceSeries

# Read of every instance: what refers to it and where it lies.
_REFERRED = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "FrameOfReferenceUID",
    "Rows",
    "Columns",
    "ImagePositionPatient",
)


def shown(source: SourceSeries, blanked: Sequence[str]) -> list[Dataset]:
    """Return a header per instance in slice order, the first whole, in one orientation and spacing.

    Copies: the source's own headers stay as they are. `SpecificCharacterSet` is away, because highdicom knows only some
    values of it, and text is text until it is written; attributes `blanked` are there and empty, because it refuses odd
    values and absent ones. Both must be put back by who asks. Spacing Between Slices is what the positions say.
    """
    first, *others = source.headers
    whole = bare(first, blanked)
    if "PerFrameFunctionalGroupsSequence" in whole:
        return [_shared(whole, source)]
    measures = _measures(whole, source)
    whole.update(measures)
    return [whole, *(_referred(other, whole, measures) for other in others)]


def bare(header: Dataset, blanked: Sequence[str]) -> Dataset:
    """Return a copy without character set, and with `blanked` empty."""
    whole = _without(header, "SpecificCharacterSet", *blanked)
    for keyword in blanked:
        setattr(whole, keyword, "")
    return whole


def _without(dataset: Dataset, *keywords: str) -> Dataset:
    """Return a copy that shares all elements but these: to assign to a shared one would change the source."""
    rest = Dataset()
    for element in dataset:
        if element.keyword not in keywords:
            rest.add(element)
    return rest


def _referred(header: Dataset, first: Dataset, measures: Dataset) -> Dataset:
    """Return a later slice: scanners round each slice's cosines anew, and read_series has found them alike."""
    slim = Dataset()
    for keyword in _REFERRED:
        if keyword in header:
            slim[keyword] = header[keyword]
    slim["ImageOrientationPatient"] = first["ImageOrientationPatient"]
    slim.update(measures)
    return slim


def _shared(whole: Dataset, source: SourceSeries) -> Dataset:
    """Return the instance with measures and orientation shared, where scanners may put them into each frame.

    See PS3.3 C.7.6.16.1.1.
    """
    frame = whole.PerFrameFunctionalGroupsSequence[(source.frames[0].frame_number or 1) - 1]
    given = (whole.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    shared = _without(given, "PixelMeasuresSequence")
    if "PlaneOrientationSequence" not in shared:
        shared["PlaneOrientationSequence"] = frame["PlaneOrientationSequence"]
    measures = given if "PixelMeasuresSequence" in given else frame
    shared.PixelMeasuresSequence = [_measures(measures.PixelMeasuresSequence[0], source)]
    copy = _without(whole, "SharedFunctionalGroupsSequence")
    copy.SharedFunctionalGroupsSequence = [shared]
    return copy


def _measures(given: Dataset, source: SourceSeries) -> Dataset:
    """Return Pixel Measures (PS3.3 C.7.6.16.2.1): the pixels' as given, the slices' as they lie."""
    measures = Dataset()
    measures["PixelSpacing"] = given["PixelSpacing"]
    apart = f"{source.volume.grid.spacing[0]:.8g}"
    measures.SliceThickness = given.get("SliceThickness") or apart
    measures.SpacingBetweenSlices = apart
    return measures
