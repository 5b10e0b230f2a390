"""What positions and orientations alone say of a series, before a pixel is read."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from daemon.domain.instance import Cosines, Instance, Vector
from daemon.domain.reasons import Reason

# Slices may stray this share of the usual gap before one counts as missing.
GAP_TOLERANCE = 0.1
_COSINE_TOLERANCE = 1e-3
# Decimals beyond the fourth are how a number was written, not how a slice was made.
_SPACING_TOLERANCE_MM = 1e-4
_SAME_PLACE_SHARE = 0.05


def normal(orientation: Cosines) -> Vector:
    """Return row x column cosines."""
    a, b, c, d, e, f = orientation
    return b * f - c * e, c * d - a * f, a * e - b * d


def same_spacing(one: Iterable[float], other: Iterable[float]) -> bool:
    """Return whether slices of these pixel spacings, row then column in mm, fit into one stack."""
    return all(abs(a - b) <= _SPACING_TOLERANCE_MM for a, b in zip(one, other, strict=True))


def flaw(instances: Sequence[Instance]) -> Reason | None:
    """Return why single-frame instances form no unbroken stack, None where they do or where frames must tell."""
    if len({i.frame_of_reference_uid for i in instances}) > 1:
        return Reason.INCONSISTENT_GEOMETRY
    if any(i.frames > 1 for i in instances):
        # Each holds a volume: what refers to frames of several cannot be written.
        return Reason.FOUR_D if len(instances) > 1 else None
    placed = [i.geometry for i in instances if i.geometry]
    if len(placed) < len(instances):
        return Reason.NO_GEOMETRY
    first = placed[0]
    if any(
        abs(a - b) > _COSINE_TOLERANCE for g in placed for a, b in zip(g.orientation, first.orientation, strict=True)
    ):
        return Reason.MIXED_ORIENTATIONS
    sizes = {(i.rows, i.columns) for i in instances}
    if len(sizes) > 1 or not all(same_spacing(g.pixel_spacing, first.pixel_spacing) for g in placed):
        return Reason.INCONSISTENT_GEOMETRY
    return _gap_flaw([b - a for a, b in pairwise(along(instances))])


def along(instances: Sequence[Instance]) -> list[float]:
    """Return where the slices that have a geometry lie along the normal of the first, in mm, lowest first."""
    placed = [i.geometry for i in instances if i.geometry]
    if not placed:
        return []
    axis = normal(placed[0].orientation)
    return sorted(sum(a * p for a, p in zip(axis, g.position, strict=True)) for g in placed)


def _gap_flaw(gaps: Sequence[float]) -> Reason | None:
    if not gaps:
        return None
    usual = sorted(gaps)[len(gaps) // 2]
    if min(gaps) < max(usual, 0.1) * _SAME_PLACE_SHARE:
        return Reason.FOUR_D
    if any(abs(gap - usual) > GAP_TOLERANCE * usual for gap in gaps):
        return Reason.MISSING_SLICES
    return None


def extent(instances: Sequence[Instance]) -> tuple[float, float] | None:
    """Return the lowest and highest patient z in mm of the slices' origins, None without geometry."""
    heights = [i.geometry.position[2] for i in instances if i.geometry]
    return (min(heights), max(heights)) if heights else None
