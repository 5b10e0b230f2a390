"""FDG PET/CT phantoms: a real trunk CT with uptake drawn organ by organ, and tumours.

Coverage is hips to liver, all that the shipped CT holds.
"""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from dicom_fixtures.phantoms import parts, petct_shifts, shifts
from dicom_fixtures.phantoms.parts import Array, Blob, Phantom, Spacing
from dicom_fixtures.phantoms.request import PLAIN_TRUNK_RADII_MM, PetCtRequest
from dicom_fixtures.phantoms.trunk import EXTENT_MM, ORGANS
from dicom_fixtures.phantoms.wild_petct import wild_petct


@dataclass(frozen=True, kw_only=True, eq=False)
class _Body:
    like: sitk.Image
    transform: sitk.Transform
    ct: Array
    inside: NDArray[np.bool_]


def petct(request: PetCtRequest) -> Phantom:
    """Return PET (SUVbw, g/ml) and CT (HU) of a trunk with `request.lesions` tumours.

    With `ct_spacing` the CT is on its own finer grid with the same centre; the mask is on the PET grid.

    Raises:
        ValueError: the lesions do not fit into the body.
    """
    if request.randomise:
        return wild_petct(request)
    rng = parts.generator(request.seed)
    body = _body(rng, request)
    blobs, mask = _tumours(rng, body, request)
    # What is beyond a plain trunk draws from a stream of its own, so that plain trunks stay as they are.
    strange = shifts.generator(request.seed)
    uptake = _organs(rng, body) + _more(strange, body, request)
    range_suv = (1.4, 2.4) if request.stratum == "faint" else (3.2, 18)
    for blob in blobs:
        uptake = _heat(rng, uptake, blob, float(np.exp(rng.uniform(*np.log(range_suv)))))
    pet = _camera(rng, body.like, uptake)
    ct = _with_tumours(body.ct, blobs) + rng.standard_normal(body.ct.shape, dtype=np.float32) * rng.uniform(4, 20)
    if request.ct_spacing:
        ct = _fine_ct(rng, body, blobs, request.ct_spacing)
    if request.shifted:
        pet = petct_shifts.reconstruct(strange, body.like, pet)
        pet, ct = petct_shifts.artefact(strange, body.like, pet, ct.astype(np.float32))
    age = float(rng.uniform(25, 85))
    lesions = tuple(parts.measure(blob.distance < 1, body.like, blob.kind, pet) for blob in blobs)
    return Phantom(
        images={"PET": pet, "CT": ct.astype(np.float32)},
        mask=mask.astype(np.uint8),
        spacing=request.spacing,
        origin=body.like.GetOrigin(),
        lesions=lesions,
        log_hazard=parts.log_hazard(lesions, age, max((lesion.suv_max or 0 for lesion in lesions), default=0)),
        age_years=age,
        sex="F" if rng.random() < 0.5 else "M",
        weight_kg=float(np.clip(rng.normal(75, 14), 42, 130)),
    )


def _body(rng: np.random.Generator, request: PetCtRequest) -> _Body:
    like = parts.grid(EXTENT_MM, request.spacing)
    transform = parts.deformation(rng, like, 0.5)
    ct = parts.warp(parts.anatomy("trunk_ct"), like, transform, -1000.0)
    solid = sitk.GetImageFromArray((ct > -300).astype(np.uint8))
    solid = sitk.BinaryMorphologicalOpening(solid, [2, 2, 1])
    labels = sitk.RelabelComponent(sitk.ConnectedComponent(solid))
    filled = sitk.BinaryMorphologicalClosing(labels == 1, [4, 4, 2])
    return _Body(like=like, transform=transform, ct=ct, inside=sitk.GetArrayFromImage(filled) > 0)


def _tumours(
    rng: np.random.Generator, body: _Body, request: PetCtRequest
) -> tuple[tuple[Blob, ...], NDArray[np.bool_]]:
    mask = np.zeros(body.ct.shape, dtype=bool)
    blobs: list[Blob] = []
    image = sitk.GetImageFromArray(body.inside.astype(np.uint8))
    image.CopyInformation(body.like)
    depth = sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(image, True, False, True))
    for _ in range(request.lesions):
        radius = float(np.exp(rng.uniform(*np.log(request.radii_mm(PLAIN_TRUNK_RADII_MM)))))
        taken = sitk.GetImageFromArray(mask.astype(np.uint8))
        taken.CopyInformation(body.like)
        free = sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(taken, False, False, True)) > radius * 1.4 + 8
        room = (depth > radius * 0.6) & (body.ct > -150) & (body.ct < 200)
        if request.stratum == "near bladder":
            room &= _beside_bladder(body)
        centre = parts.pick_centre(rng, room & free if mask.any() else room, body.like)
        distance = np.where(body.inside, parts.irregular(rng, body.like, centre, radius), 2.0).astype(np.float32)
        kind = "necrotic" if radius > 16 and rng.random() < 0.4 else "solid"
        texture = parts.smooth_noise(rng, body.like, 14.0)
        blobs.append(Blob(kind=kind, distance=distance, strength=float(rng.uniform(25, 60)), texture=texture))
        mask |= distance < 1
    return tuple(blobs), mask


def _beside_bladder(body: _Body) -> NDArray[np.bool_]:
    bladder = ORGANS["bladder"]
    shift = -np.array(body.transform.TransformPoint((0.0, 0.0, 0.0)))[::-1]
    z, y, x = (float(c + s) for c, s in zip(bladder.centre, shift, strict=True))
    distance = parts.ellipsoid(body.like, (z, y, x), bladder.radii)
    return np.asarray((distance > 1.1) & (distance < 2.0))


def _more(strange: np.random.Generator, body: _Body, request: PetCtRequest) -> Array:
    added = np.zeros_like(body.ct)
    if request.stratum == "look-alikes":
        added = added + petct_shifts.lookalikes(strange, body.like, body.ct, body.inside)
    if request.shifted:
        added = added + petct_shifts.pattern(strange, body.like, body.ct, body.inside)
    return added


def _organs(rng: np.random.Generator, body: _Body) -> Array:
    """Return SUV by tissue of the CT, then organs, gut and mild inflammation."""
    varied = 1 + 0.15 * parts.smooth_noise(rng, body.like, 40.0)
    suv = np.interp(body.ct, (-1000, -800, -120, -60, 20, 60, 200, 600), (0.02, 0.3, 0.25, 0.3, 0.7, 0.9, 1.2, 0.9))
    suv = np.where(body.inside, suv * varied, 0.01)
    here = body.transform.TransformPoint
    shift = -np.array(here((0.0, 0.0, 0.0)))
    soft = body.inside & (body.ct > -60)
    for organ in ORGANS.values():
        centre = tuple(float(c + s) for c, s in zip(organ.centre, shift[::-1], strict=True))
        level = float(np.exp(rng.uniform(*np.log(organ.suv))))
        distance = parts.ellipsoid(body.like, (centre[0], centre[1], centre[2]), organ.radii)
        cover = parts.within(distance, 0.9, 0.06) * soft
        suv = suv + cover * (level * varied - suv)
    if rng.random() < 0.6:
        gut = np.exp(-((parts.smooth_noise(rng, body.like, 45.0) / 0.16) ** 2))
        belly = parts.ellipsoid(body.like, (20.0, -45.0, 0.0), (110.0, 60.0, 110.0)) < 1
        suv = suv + gut * belly * soft * float(rng.uniform(0.5, 3.0))
    for _ in range(int(rng.integers(0, 4))):
        centre = parts.pick_centre(rng, soft, body.like)
        spot = parts.ellipsoid(body.like, centre, (8.0, 7.0, 7.0))
        suv = suv + np.clip(1.3 - spot, 0, 1) * float(rng.uniform(0.4, 1.4))
    return np.asarray(suv, dtype=np.float32)


def _heat(rng: np.random.Generator, suv: Array, blob: Blob, level: float) -> Array:
    cover = parts.within(blob.distance, 1.0, 0.04)
    value = level * np.clip(1 + 0.2 * blob.texture, 0.35, None)
    if blob.kind == "necrotic":
        value = value * (1 - 0.75 * parts.within(blob.distance, float(rng.uniform(0.35, 0.6)), 0.06))
    return np.asarray(suv + cover * np.maximum(value - suv, 0), dtype=np.float32)


def _camera(rng: np.random.Generator, like: sitk.Image, suv: Array) -> Array:
    """Blur with the scanner's point spread (5 to 7 mm FWHM) and add count noise that grows with uptake."""
    image = sitk.GetImageFromArray(suv)
    image.CopyInformation(like)
    fwhm = float(rng.uniform(5.0, 7.0))
    blurred = sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(image, fwhm / 2.355))
    noise = parts.smooth_noise(rng, like, max(fwhm, like.GetSpacing()[0]))
    level = float(rng.uniform(0.03, 0.09))
    return np.asarray(np.maximum(blurred + level * np.sqrt(np.maximum(blurred, 0.02)) * noise, 0), dtype=np.float32)


def _with_tumours(ct: Array, blobs: tuple[Blob, ...]) -> Array:
    for blob in blobs:
        cover = parts.within(blob.distance, 0.98, 0.04)
        density = blob.strength + 6 * blob.texture - (20 if blob.kind == "necrotic" else 0)
        ct = ct + cover * np.where(ct < 200, density - ct, 0)
    return np.asarray(ct, dtype=np.float32)


def _fine_ct(rng: np.random.Generator, body: _Body, blobs: tuple[Blob, ...], spacing: Spacing) -> Array:
    like = parts.grid(EXTENT_MM, spacing)
    fine = parts.warp(parts.anatomy("trunk_ct"), like, body.transform, -1000.0)
    on_fine = []
    for blob in blobs:
        fields = []
        for field, outside in ((blob.distance, 3.0), (blob.texture, 0.0)):
            image = sitk.GetImageFromArray(field)
            image.CopyInformation(body.like)
            fields.append(parts.warp(image, like, sitk.Transform(), outside))
        on_fine.append(Blob(kind=blob.kind, distance=fields[0], strength=blob.strength, texture=fields[1]))
    noise = rng.standard_normal(fine.shape, dtype=np.float32) * float(rng.uniform(4, 14))
    return _with_tumours(fine, tuple(on_fine)) + noise
