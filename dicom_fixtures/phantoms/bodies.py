"""Bodies for training: a real trunk, a real head, and drawn limbs and chests, as CT with normal uptake.

The shipped CT ends at the liver, so limbs and chests are drawn: fat, muscle with its planes, bone, lung, heart.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from dicom_fixtures.phantoms import fields, heads, parts
from dicom_fixtures.phantoms.parts import Array, Spacing
from dicom_fixtures.phantoms.trunk import EXTENT_MM, ORGANS

CT_TEMPLATE_HU = ((0, 700, 2000, 2500, 2900, 3200, 3790), (-1000, -110, 5, 38, 90, 350, 1000))


@dataclass(frozen=True, kw_only=True, eq=False)
class Body:
    """A body on the grid `like`: HU, where it is body, normal SUV, and `hot`: organs no tumour is drawn into.

    `bladder` is the distance to the bladder's centre in units of its radii, where there is one.
    """

    kind: str
    like: sitk.Image
    ct: Array
    inside: NDArray[np.bool_]
    suv: Array
    hot: NDArray[np.bool_]
    bladder: Array | None = None


def body(rng: np.random.Generator, spacing: Spacing, kind: str = "") -> Body:
    """Return a random body of `kind`: trunk, limb, chest or head; empty draws one."""
    makers: dict[str, Callable[[np.random.Generator, Spacing], Body]] = {
        "trunk": _trunk,
        "limb": _limb,
        "chest": _chest,
        "head": _head,
    }
    return makers[kind or str(rng.choice(list(makers), p=(0.45, 0.33, 0.12, 0.10)))](rng, spacing)


@cache
def _trunk_mask() -> sitk.Image:
    """Return where the shipped CT is body rather than air or couch."""
    ct = parts.anatomy("trunk_ct")
    labels = sitk.RelabelComponent(sitk.ConnectedComponent(sitk.BinaryMorphologicalOpening(ct > -300, [2, 2, 1])))
    return sitk.Cast(sitk.BinaryMorphologicalClosing(labels == 1, [4, 4, 2]), sitk.sitkFloat32)


def _posed(rng: np.random.Generator, like: sitk.Image, elastic_mm: float) -> Array:
    """Return the displacement (z, y, x, xyz in mm) of a random size, turn and shape; half are mirrored."""
    field = fields.coarse(like, (16.0, 16.0, 16.0))
    z, y, x = np.broadcast_arrays(*parts.axes_mm(field))
    here = np.stack((x, y, z), axis=-1)
    angle = float(rng.normal(0, 0.07))
    turn = np.array(((np.cos(angle), -np.sin(angle), 0), (np.sin(angle), np.cos(angle), 0), (0, 0, 1)))
    size = np.diag(rng.uniform(0.88, 1.12, 3) * (1 if rng.random() < 0.5 else -1, 1, 1))
    elastic = [elastic_mm * fields.noise(rng, field, 90.0) for _ in range(3)]
    moved = here @ (turn @ size).T + rng.uniform(-6, 6, 3) + np.stack(elastic, axis=-1)
    return (moved - here).astype(np.float32)


def soft_uptake(rng: np.random.Generator, like: sitk.Image, ct: Array) -> Array:
    """Return SUV by tissue of the CT, uneven over 40 mm."""
    varied = 1 + 0.15 * fields.noise(rng, like, 40.0)
    levels = np.array((0.02, 0.3, 0.25, 0.3, 0.7, 0.9, 1.2, 0.9)) * float(rng.uniform(0.7, 1.3))
    return np.asarray(np.interp(ct, (-1000, -800, -120, -60, 20, 60, 200, 600), levels) * varied, dtype=np.float32)


def _trunk(rng: np.random.Generator, spacing: Spacing) -> Body:
    like = parts.grid(EXTENT_MM, spacing)
    shifted = _posed(rng, like, 4.0)
    moved = fields.spread(shifted, like)
    ct = fields.see(parts.anatomy("trunk_ct"), like, moved, -1000.0)
    inside = fields.see(_trunk_mask(), like, moved) > 0.5
    suv = soft_uptake(rng, like, ct)
    soft = inside & (ct > -60)
    hot, bladder = np.zeros(ct.shape, dtype=bool), None
    z, y, x = parts.axes_mm(like)
    for name, organ in ORGANS.items():
        # Organs move with the anatomy: their coordinates are those the displacement points to.
        where = ((z + moved[..., 2], organ.centre[0]), (y + moved[..., 1], organ.centre[1]))
        near = [((axis - c) / r) ** 2 for (axis, c), r in zip(where, organ.radii[:2], strict=True)]
        across = ((x + moved[..., 0] - organ.centre[2]) / organ.radii[2]) ** 2
        fill = float(rng.uniform(0.7, 1.35)) if name == "bladder" else 1.0
        distance = np.sqrt(near[0] + near[1] + across) / fill
        cover = parts.within(distance, 0.9, 0.06) * soft
        suv = suv + cover * (float(np.exp(rng.uniform(*np.log(organ.suv)))) - suv)
        hot |= (distance < 1) & (name != "liver")
        bladder = distance.astype(np.float32) if name == "bladder" else bladder
    return Body(kind="trunk", like=like, ct=ct, inside=inside, suv=suv.astype("f4"), hot=hot, bladder=bladder)


def _limb(rng: np.random.Generator, spacing: Spacing) -> Body:
    """Return a thigh, lower leg or arm: skin, fat, muscle with planes, one or two bones, perhaps a joint."""
    like = parts.grid((float(rng.uniform(170, 320)), 230.0, 230.0), spacing)
    z, y, x = parts.axes_mm(like)
    size, taper = float(rng.uniform(48, 98)), float(rng.uniform(-0.0016, 0.0016))
    bend = fields.noise(rng, like, 120.0) * 0.05
    wide = float(rng.uniform(0.85, 1.15))
    radius = np.sqrt((x / wide) ** 2 + (y * wide) ** 2) / (size * (1 + taper * z)) + bend
    fat = float(rng.uniform(0.05, 0.35))
    planes = np.abs(fields.noise(rng, like, float(rng.uniform(20, 34)))) < float(rng.uniform(0.02, 0.14))
    muscle = float(rng.uniform(40, 65)) + 8 * fields.noise(rng, like, 10.0)
    ct = np.where(planes, float(rng.uniform(-80, 0)), muscle)
    ct = np.where(radius > 1 - fat, float(rng.normal(-100, 10)), ct)
    thick = float(rng.uniform(10, 16)) * size / 80
    joint = float(rng.choice((-1.0, 1.0))) * like.GetSize()[2] * like.GetSpacing()[2] / 2
    flare = 1 + float(rng.choice((0.0, 1.4))) * np.exp(-np.abs(z - joint) / 25)
    middle = (float(rng.normal(0, size * 0.15)), float(rng.normal(0, size * 0.15)))
    bones = [(middle, thick)]
    if rng.random() < 0.35:
        bones.append(((middle[0] + size * 0.3, middle[1] + size * 0.25), thick * 0.5))
    for (by, bx), bone in bones:
        away = np.sqrt((x - bx) ** 2 + (y - by) ** 2) / flare
        ct = np.where(away < bone, np.where(flare > 1.5, 350.0, float(rng.uniform(900, 1400))), ct)
        ct = np.where(away < bone * 0.6, float(rng.uniform(-60, 60)) + 250 * (flare > 1.5), ct)
    ct = np.where(radius > 1, -1000.0, ct)
    return _drawn("limb", rng, like, ct)


def _chest(rng: np.random.Generator, spacing: Spacing) -> Body:
    """Return a chest: wall with ribs, lungs, spine, heart with or without a hot wall, the liver's dome."""
    like = parts.grid((float(rng.uniform(180, 280)), 270.0, 380.0), spacing)
    z, y, x = parts.axes_mm(like)
    scale, bend = float(rng.uniform(0.85, 1.1)), 0.05 * fields.noise(rng, like, 90.0)
    torso = np.sqrt((x / (165 * scale)) ** 2 + (y / (112 * scale)) ** 2) + bend
    ct = np.where(torso < 0.86, 50 + 8 * fields.noise(rng, like, 10.0), float(rng.normal(-100, 8)))
    ribs = (np.abs(torso - 0.8) < 0.03) & (np.cos((z + 0.4 * y) * 2 * np.pi / 28) > 0.35)
    ct = np.where(ribs, 450.0, ct)
    lungs = np.minimum(
        *(parts.ellipsoid(like, (5.0, 0.0, side * 75 * scale), (150.0, 78 * scale, 62 * scale)) for side in (-1, 1))
    )
    ct = np.where(lungs + bend < 1, -860 + 40 * fields.noise(rng, like, 9.0), ct)
    heart = parts.ellipsoid(like, (-35.0, -25.0, 28.0), (52.0, 46.0, 48.0)) + 0.6 * bend
    ct = np.where(heart < 1, 45.0, ct)
    spine = np.sqrt((x / 20) ** 2 + ((y - 72 * scale) / 19) ** 2)
    ct = np.where(spine < 1, 220.0, ct)
    dome = parts.ellipsoid(like, (-150.0, 0.0, -60.0), (85.0, 85.0, 90.0))
    ct = np.where((dome < 1) & (torso < 0.8), 60.0, ct)
    ct = np.where(torso > 1, -1000.0, ct)
    made = _drawn("chest", rng, like, ct)
    wall = (heart < 1) & (heart > 0.68)
    suv = np.where(wall, float(np.exp(rng.uniform(np.log(1.2), np.log(14)))), made.suv)
    suv = np.where((heart <= 0.68) | (np.hypot(x, y + 5) < 22), float(rng.uniform(1.2, 2.4)), suv)
    suv = np.where((dome < 1) & (torso < 0.8), float(rng.uniform(1.6, 3.0)), suv)
    return _filled(made, suv, heart < 1.05)


def _head(rng: np.random.Generator, spacing: Spacing) -> Body:
    """Return a head with the brain's uptake, on a grid of its own coverage."""
    posed = heads.pose(rng, spacing, anatomy="mni with skull")
    t1, brain = heads.tissue(posed, posed.like)
    displacement = fields.spread(posed.displacement, posed.like) + np.array(heads.CT_OFFSET_MM, np.float32)
    level = 16 * fields.see(parts.anatomy("head_ct"), posed.like, displacement)
    ct = np.interp(level, *CT_TEMPLATE_HU).astype(np.float32)
    made = _drawn("head", rng, posed.like, ct)
    grey = np.interp(t1, (20, 75, 108, 130), (0.1, 1.0, 0.42, 0.4)) * float(rng.uniform(5, 15))
    deep = fields.signed_distance(brain > 0.5, posed.like) < 6
    return _filled(made, made.suv + np.where(brain > 0.5, grey - made.suv, 0), deep)


def _drawn(kind: str, rng: np.random.Generator, like: sitk.Image, ct: Array) -> Body:
    ct = np.broadcast_to(ct, like.GetSize()[::-1]).astype(np.float32)
    inside = ct > -950
    suv = np.where(inside, soft_uptake(rng, like, ct), 0.01).astype(np.float32)
    return Body(kind=kind, like=like, ct=ct, inside=inside, suv=suv, hot=np.zeros(ct.shape, dtype=bool))


def _filled(made: Body, suv: Array, hot: NDArray[np.bool_]) -> Body:
    suv = np.where(made.inside, suv, 0.01).astype(np.float32)
    return Body(kind=made.kind, like=made.like, ct=made.ct, inside=made.inside, suv=suv, hot=hot)
