"""What holds of phantoms as arrays."""

from collections.abc import Callable

import numpy as np
import pytest

from dicom_fixtures.phantoms import BRAIN_STRATA, BrainRequest, PetCtRequest, Phantom, brain, petct

COARSE = (6.0, 3.0, 3.0)


def head(seed: int, lesions: int = 1, *, stratum: str = "") -> Phantom:
    return brain(BrainRequest(seed=seed, lesions=lesions, spacing=COARSE, stratum=stratum))


def training_head(seed: int, lesions: int = 1, *, stratum: str = "") -> Phantom:
    request = BrainRequest(seed=seed, lesions=lesions, spacing=COARSE, randomise=True, stratum=stratum)
    return brain(request)


def shifted_head(seed: int, lesions: int = 1) -> Phantom:
    return brain(BrainRequest(seed=seed, lesions=lesions, spacing=COARSE, shifted=True))


def trunk(seed: int, lesions: int = 1) -> Phantom:
    return petct(PetCtRequest(seed=seed, lesions=lesions, spacing=(6.0, 6.0, 6.0)))


MAKERS = [head, trunk, training_head, shifted_head]


def volume_ml(made: Phantom) -> float:
    return float(made.mask.sum() * np.prod(made.spacing) / 1000)


@pytest.mark.parametrize("make", MAKERS)
def test_the_same_seed_gives_the_same_phantom(make: Callable[..., Phantom]) -> None:
    """Voxels, mask and hazard depend on the seed alone."""
    first, again, other = make(5), make(5), make(6)
    for name in first.images:
        np.testing.assert_array_equal(first.images[name], again.images[name])
        assert not np.array_equal(first.images[name], other.images[name])
    np.testing.assert_array_equal(first.mask, again.mask)
    assert (first.lesions, first.log_hazard) == (again.lesions, again.log_hazard)


@pytest.mark.parametrize("make", MAKERS)
def test_lesion_volumes_add_up_to_the_mask(make: Callable[..., Phantom]) -> None:
    """The volumes of the lesion table are the volume under the mask."""
    made = make(3, 2)
    assert len(made.lesions) == 2
    assert sum(lesion.volume_ml for lesion in made.lesions) == pytest.approx(volume_ml(made), rel=0.02)


@pytest.mark.parametrize("make", MAKERS)
def test_a_normal_study_has_an_empty_mask(make: Callable[..., Phantom]) -> None:
    """No lesion asked for, none marked and none listed."""
    made = make(4, 0)
    assert not made.mask.any()
    assert made.lesions == ()


@pytest.mark.parametrize("make", MAKERS)
def test_lesions_lie_where_the_table_says(make: Callable[..., Phantom]) -> None:
    """The centre in patient coordinates is the centroid of the mask."""
    made = make(8)
    indices = np.argwhere(made.mask).mean(axis=0)[::-1]
    centroid = np.array(made.origin) + indices * np.array(made.spacing[::-1])
    np.testing.assert_allclose(made.lesions[0].centre_mm, centroid, atol=1e-3)


def test_tumours_are_hot_and_normal_trunks_stay_plausible() -> None:
    """A tumour's SUVmax is above muscle and liver; CT reaches from air to bone."""
    made = trunk(7)
    suv_max = made.lesions[0].suv_max
    assert suv_max is not None
    assert suv_max == pytest.approx(float(made.images["PET"][made.mask > 0].max()))
    assert suv_max > 2
    assert 0.2 < float(np.median(made.images["PET"][made.images["CT"] > -50])) < 1.5
    assert made.images["CT"].min() < -900
    assert made.images["CT"].max() > 400


def test_more_and_larger_tumours_raise_the_hazard() -> None:
    """A normal head has less hazard than a head with tumours, age set aside."""
    normal, ill = head(2, 0), head(2, 3)
    assert ill.log_hazard - 0.03 * ill.age_years > normal.log_hazard - 0.03 * normal.age_years


def test_unknown_contrast_is_refused() -> None:
    """A contrast that nobody modelled is an error, never a guess."""
    with pytest.raises(KeyError):
        brain(BrainRequest(seed=1, spacing=COARSE, contrasts=("DWI",)))


def test_a_plain_phantom_stays_as_it_always_was() -> None:
    """What was added since draws from streams of its own: the plain phantom of a seed has its first figures."""
    made, ill = head(5), trunk(5)
    assert made.images["FLAIR"].mean() == pytest.approx(213.29367, rel=1e-5)
    assert made.images["FLAIR"].std() == pytest.approx(206.04884, rel=1e-5)
    assert int(made.mask.sum()) == 562
    assert made.log_hazard == pytest.approx(1.368218122680135)
    assert ill.images["PET"].std() == pytest.approx(1.0230070, rel=1e-5)
    assert ill.images["CT"].mean() == pytest.approx(-445.11912, rel=1e-5)
    assert int(ill.mask.sum()) == 551
    assert ill.log_hazard == pytest.approx(3.3726500303376827)


def test_a_shifted_head_is_the_plain_one_changed() -> None:
    """The same tumours lie in it, and the picture differs."""
    plain, shifted = head(9), shifted_head(9)
    np.testing.assert_array_equal(plain.mask, shifted.mask)
    assert not np.array_equal(plain.images["FLAIR"], shifted.images["FLAIR"])


@pytest.mark.parametrize("make", [head, training_head])
def test_small_tumours_are_small(make: Callable[..., Phantom]) -> None:
    """No tumour of the stratum is above a ball of 6 mm radius by half."""
    assert max(make(seed, stratum="small").lesions[0].volume_ml for seed in range(3)) < 1.5 * 0.905


@pytest.mark.parametrize("make", [head, training_head])
def test_faint_tumours_stand_out_less(make: Callable[..., Phantom]) -> None:
    """Over several seeds the tumour's contrast to its neighbourhood is far below the usual one."""

    def contrast(made: Phantom) -> float:
        image, inside = made.images["FLAIR"], made.mask > 0
        brain_like = (image > np.median(image[inside]) * 0.4) & ~inside
        return float((image[inside].mean() - np.median(image[brain_like])) / image[brain_like].std())

    seeds = range(4)
    faint = np.mean([contrast(make(seed, stratum="faint")) for seed in seeds])
    assert faint < 0.7 * np.mean([contrast(make(seed)) for seed in seeds])


def test_look_alikes_brighten_a_normal_head_and_mark_nothing() -> None:
    """The stratum adds brightness where no tumour is."""
    usual, alike = head(4, 0), head(4, 0, stratum="look-alikes")
    assert not alike.mask.any()
    assert (alike.images["FLAIR"] - usual.images["FLAIR"]).max() > 50


def test_an_outline_after_contrast_agent_covers_the_enhancing_core_alone() -> None:
    """Of the same training head the outline on T1C lies within that on FLAIR, for some tumour well within."""
    shares = []
    for seed in range(6):
        flair, t1c = (
            brain(BrainRequest(seed=seed, spacing=COARSE, randomise=True, contrasts=(name,))).mask > 0
            for name in ("FLAIR", "T1C")
        )
        assert not (t1c & ~flair).any()
        shares.append(t1c.sum() / flair.sum())
    assert min(shares) < 0.7


@pytest.mark.parametrize(
    ("stratum", "randomise", "shifted", "words"),
    [("large", False, False, "no stratum 'large'"), ("", True, True, "never both")],
)
def test_a_request_that_means_nothing_is_refused(stratum: str, words: str, *, randomise: bool, shifted: bool) -> None:
    """An unknown stratum, and training and test at once, are errors that say what to write."""
    with pytest.raises(ValueError, match=words):
        BrainRequest(seed=1, stratum=stratum, randomise=randomise, shifted=shifted)


@pytest.mark.parametrize("stratum", BRAIN_STRATA)
def test_every_stratum_can_be_made_of_every_head(stratum: str) -> None:
    """Plain, training and shifted heads know all strata."""
    for randomise, shifted in ((False, False), (True, False), (False, True)):
        made = brain(BrainRequest(seed=2, spacing=COARSE, stratum=stratum, randomise=randomise, shifted=shifted))
        assert made.mask.any()
