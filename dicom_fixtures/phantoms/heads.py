"""Heads for training: three anatomies in any pose, age, coverage and extraction, pressed aside by tumours.

Pose, age and pressure are one displacement, so that each anatomy is resampled once.
"""

from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from dicom_fixtures.phantoms import fields, parts
from dicom_fixtures.phantoms.parts import Array, Spacing

ANATOMIES = ("colin", "mni", "mni with skull")
FIELD_MM = (7.0, 7.0, 7.0)
COARSE_MM = (3.0, 2.0, 2.0)
# The CT template lies 4 mm lower than the MR template once each is centred on its own box.
CT_OFFSET_MM = (0.0, 0.0, 4.0)
# Grey levels of the CT template, and the T1 grey level on Colin's scale of what they show outside the brain.
CT_LEVELS = (300.0, 900.0, 1700.0, 2300.0, 2700.0, 3000.0, 3300.0)
CT_AS_T1 = (0.0, 150.0, 170.0, 55.0, 45.0, 18.0, 6.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Head:
    """A head on its grid `like`: T1 grey levels on Colin's scale and brain fraction; the same coarsely.

    `edge_mm` is the signed distance to the brain's surface on the coarse grid, negative inside.
    """

    like: sitk.Image
    small: sitk.Image
    t1: Array
    brain: Array
    small_t1: Array
    small_brain: Array
    edge_mm: Array
    stripped: bool


@dataclass(frozen=True, kw_only=True)
class Pressure:
    """What pushes tissue aside: a centre (z, y, x), a radius and a push in mm, and a shift of its side in mm."""

    centre: Spacing
    radius: float
    push: float
    shift: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Pose:
    """An anatomy's name, its grid and the displacement (z, y, x, xyz in mm) that poses it, on a coarse grid."""

    anatomy: str
    like: sitk.Image
    field: sitk.Image
    displacement: Array


def pose(rng: np.random.Generator, spacing: Spacing, anatomy: str = "") -> Pose:
    """Return a random anatomy (or the one named), coverage, rotation up to 14 degrees, size, flip and shape."""
    anatomy = anatomy or str(rng.choice(ANATOMIES, p=(0.5, 0.25, 0.25)))
    like = _coverage(rng, spacing, stripped=anatomy == "mni")
    field = fields.coarse(like, FIELD_MM)
    z, y, x = np.broadcast_arrays(*parts.axes_mm(field))
    here = np.stack((x, y, z), axis=-1)
    matrix = np.diag(rng.uniform(0.87, 1.13) * rng.uniform(0.94, 1.06, 3))
    for first, second in ((0, 1), (0, 2), (1, 2)):
        turn, angle = np.eye(3), float(rng.normal(0, 0.1))
        turn[[first, second], [first, second]] = np.cos(angle)
        turn[first, second], turn[second, first] = np.sin(angle), -np.sin(angle)
        matrix = matrix @ turn
    if rng.random() < 0.5:
        matrix = np.diag((-1.0, 1.0, 1.0)) @ matrix
    elastic = [
        float(rng.uniform(1, 4.5)) * fields.noise(rng, field, 60.0) + 1.2 * fields.noise(rng, field, 24.0)
        for _ in range(3)
    ]
    moved = here @ matrix.T + rng.uniform(-5, 5, 3) + np.stack(elastic, axis=-1)
    return Pose(anatomy=anatomy, like=like, field=field, displacement=(moved - here).astype(np.float32))


def _coverage(rng: np.random.Generator, spacing: Spacing, *, stripped: bool) -> sitk.Image:
    """Return a grid over the whole head or part of it; a stripped brain may stand in a wide empty frame."""
    whole = rng.random() < 0.6
    low = 0.0 if whole else float(rng.uniform(0, 75))
    high = 0.0 if whole else float(rng.uniform(0, 35))
    frame = float(rng.choice((0.0, 0.0, 12.0, 40.0))) * (1.0 if stripped else 0.6)
    like = parts.grid((186.0 - low - high, 232.0 + frame / 4, 192.0 + frame), spacing)
    x, y, z = like.GetOrigin()
    like.SetOrigin((x, y, z + (low - high) / 2))
    return like


def press(posed: Pose, pressures: tuple[Pressure, ...]) -> Pose:
    """Return the pose with tissue pressed away from each centre and its hemisphere toward the other side.

    The push falls off exponentially from the radius on, the shift as a Gaussian of 45 mm.
    """
    z, y, x = parts.axes_mm(posed.field)
    add = np.zeros_like(posed.displacement)
    for pressure in pressures:
        cz, cy, cx = pressure.centre
        away = np.stack(np.broadcast_arrays(x - cx, y - cy, z - cz), axis=-1)
        length = np.linalg.norm(away, axis=-1, keepdims=True)
        beyond = np.maximum(length / pressure.radius - 1, 0)
        add -= away * (pressure.push / pressure.radius) * np.exp(-beyond / 0.6)
        side = np.exp(-0.5 * (length[..., 0] / 45.0) ** 2)
        add[..., 0] += np.sign(cx) * pressure.shift * side
    return Pose(
        anatomy=posed.anatomy, like=posed.like, field=posed.field, displacement=(posed.displacement + add).astype("f4")
    )


def tissue(posed: Pose, like: sitk.Image) -> tuple[Array, Array]:
    """Return T1 grey levels on Colin's scale and the brain's fraction on the grid of `like`, skull and all."""
    displacement = fields.spread(posed.displacement, like)
    if posed.anatomy == "colin":
        t1 = fields.see(parts.anatomy("colin27_t1"), like, displacement)
        return t1, fields.see(parts.anatomy("colin27_brain"), like, displacement)
    t1 = fields.see(parts.anatomy("mni152_t1"), like, displacement)
    brain = np.clip((t1 - 12) / 25, 0, 1)
    t1 = t1 * 0.55
    if posed.anatomy == "mni with skull":
        ct = 16 * fields.see(parts.anatomy("head_ct"), like, displacement + np.array(CT_OFFSET_MM, np.float32))
        t1 = np.where(brain > 0.5, t1, np.interp(ct, CT_LEVELS, CT_AS_T1))
    return np.asarray(t1, dtype=np.float32), np.asarray(brain, dtype=np.float32)


def head(rng: np.random.Generator, posed: Pose) -> Head:
    """Return the posed head, with its skull, without, or without its face."""
    small = fields.coarse(posed.like, COARSE_MM)
    small_t1, small_brain = tissue(posed, small)
    t1, brain = tissue(posed, posed.like)
    edge = fields.signed_distance(small_brain > 0.5, small)
    stripped = posed.anatomy == "mni" or rng.random() < 0.3
    if stripped:
        # Extraction tools leave or take a millimetre or two.
        kept = fields.upsample(edge, posed.like) < float(rng.uniform(-1.0, 1.5))
        t1, brain = t1 * kept, brain * kept
    elif rng.random() < 0.12:
        t1 = t1 * (~_face(posed.like) | (brain > 0.02))
    return Head(
        like=posed.like,
        small=small,
        t1=t1.astype(np.float32),
        brain=brain.astype(np.float32),
        small_t1=small_t1,
        small_brain=small_brain,
        edge_mm=edge,
        stripped=stripped,
    )


def _face(like: sitk.Image) -> NDArray[np.bool_]:
    z, y, _ = parts.axes_mm(like)
    return np.asarray((y < -62 - 0.9 * (z + 40)) & (z < 0))


def with_t1(head: Head, t1: Array) -> Head:
    """Return the head with other T1 grey levels on its fine grid."""
    return replace(head, t1=np.asarray(t1, dtype=np.float32))
