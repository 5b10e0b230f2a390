"""What holds of training and shifted PET/CT bodies."""

import numpy as np
import pytest

from dicom_fixtures.phantoms import PETCT_STRATA, PetCtRequest, Phantom, bodies, fields, parts, petct, petct_shifts
from dicom_fixtures.phantoms.trunk import ORGANS

COARSE = (6.0, 6.0, 6.0)


def made(seed: int, lesions: int = 1, stratum: str = "", *, shifted: bool = False) -> Phantom:
    request = PetCtRequest(
        seed=seed, lesions=lesions, spacing=COARSE, randomise=not shifted, shifted=shifted, stratum=stratum
    )
    return petct(request)


@pytest.mark.parametrize("stratum", ["", *PETCT_STRATA])
@pytest.mark.parametrize("shifted", [False, True])
def test_every_stratum_gives_a_whole_study(stratum: str, *, shifted: bool) -> None:
    """Arrays share one grid, are finite, and the lesion table adds up to the mask; the seed decides all."""
    study, again = made(11, 2, stratum, shifted=shifted), made(11, 2, stratum, shifted=shifted)
    for image, other in zip(study.images.values(), again.images.values(), strict=True):
        assert image.shape == study.mask.shape
        assert np.isfinite(image).all()
        np.testing.assert_array_equal(image, other)
    volume = float(study.mask.sum() * np.prod(study.spacing) / 1000)
    assert sum(lesion.volume_ml for lesion in study.lesions) == pytest.approx(volume, rel=1e-3)
    assert study.images["PET"].min() >= 0


def test_a_cropped_study_keeps_its_place() -> None:
    """A training study may show part of the body; its tumours still lie where the table says."""
    shapes = set()
    for seed in range(8):
        study = made(seed)
        shapes.add(study.mask.shape)
        centroid = np.argwhere(study.mask).mean(axis=0)[::-1] * np.array(study.spacing[::-1]) + np.array(study.origin)
        np.testing.assert_allclose(study.lesions[0].centre_mm, centroid, atol=1e-2)
    assert len(shapes) > 3


def test_normal_studies_have_hot_organs_and_no_mask() -> None:
    """Bladder, kidneys, heart or brain reach SUV of tumours, and nothing is outlined."""
    studies = [made(seed, 0) for seed in range(8)]
    assert not any(study.mask.any() for study in studies)
    assert max(float(study.images["PET"].max()) for study in studies) > 5


def test_every_kind_of_body_has_its_normal_uptake() -> None:
    """The brain is hotter than the rest of the head, the bladder than the trunk; a limb has no hot organ."""
    rng = parts.generator(3)
    head, trunk, limb = (bodies.body(rng, COARSE, kind) for kind in ("head", "trunk", "limb"))
    assert head.suv[head.hot].mean() > 3 * head.suv[head.inside & ~head.hot].mean()
    assert trunk.bladder is not None
    assert trunk.suv[(trunk.bladder < 0.7) & trunk.inside].mean() > 2 * np.median(trunk.suv[trunk.inside])
    assert limb.suv.max() < 2.5
    assert limb.ct.max() > 300


def test_tumours_near_the_bladder_are_near_it() -> None:
    """In a plain trunk the tumour's centre is within two and a half bladder radii."""
    for seed in range(3):
        study = petct(PetCtRequest(seed=seed, spacing=COARSE, stratum="near bladder", lesion_radius_mm=(8, 12)))
        away = np.array(study.lesions[0].centre_mm[::-1]) - np.array(ORGANS["bladder"].centre)
        assert np.linalg.norm(away / np.array(ORGANS["bladder"].radii)) < 2.5


def test_faint_tumours_are_cooler_than_usual_ones() -> None:
    """SUVmax of the stratum is below that of the same seeds without it."""
    for seed in range(3):
        faint, usual = (
            petct(PetCtRequest(seed=seed, spacing=COARSE, stratum=stratum)).lesions[0].suv_max or 0
            for stratum in ("faint", "")
        )
        assert faint < usual


def test_a_shifted_trunk_is_the_plain_one_changed() -> None:
    """Tumours are the same, pictures are not."""
    plain, shifted = petct(PetCtRequest(seed=4, spacing=COARSE)), made(4, shifted=True)
    np.testing.assert_array_equal(plain.mask, shifted.mask)
    assert not np.allclose(plain.images["PET"], shifted.images["PET"])


def test_metal_streaks_the_ct_and_heats_the_pet() -> None:
    """An implant of 3000 HU lies in bone, CT changes beyond it, PET is nowhere lower."""
    like = parts.grid((120.0, 120.0, 120.0), COARSE)
    ct = np.full(like.GetSize()[::-1], 40.0, np.float32)
    ct[8:12, 8:12, 8:12] = 800
    pet = np.ones_like(ct)
    hot, streaked = petct_shifts._metal(parts.generator(1), like, pet, ct)
    assert streaked.max() == 3000
    assert (np.abs(streaked - ct) > 30)[ct == 40].mean() > 0.05
    assert hot.min() >= 1 - 1e-6
    assert hot.max() > 1.2


def test_smooth_fields_keep_what_they_should() -> None:
    """Blur and slabs keep a constant, upsampling keeps a ramp's ends in order, noise has unit deviation."""
    for matrix in (fields.gaussian(20, 1.5), fields.slab(20, 2.2, 0.4)):
        np.testing.assert_allclose(matrix.sum(1), 1, rtol=1e-5)
    ramp = fields.linear(12, 4) @ np.arange(4, dtype=np.float32)
    assert (np.diff(ramp) >= 0).all()
    assert ramp[0] == 0
    assert ramp[-1] == 3
    like = parts.grid((60.0, 60.0, 60.0), (3.0, 2.0, 2.0))
    assert fields.noise(parts.generator(1), like, 15.0).std() == pytest.approx(1, rel=1e-3)
