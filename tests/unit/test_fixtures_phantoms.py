"""What holds of phantoms as arrays."""

from collections.abc import Callable

import numpy as np
import pytest

from dicom_fixtures.phantoms import BrainRequest, PetCtRequest, Phantom, brain, petct

COARSE = (6.0, 3.0, 3.0)


def head(seed: int, lesions: int = 1, *, randomise: bool = False) -> Phantom:
    return brain(BrainRequest(seed=seed, lesions=lesions, spacing=COARSE, randomise=randomise))


def trunk(seed: int, lesions: int = 1) -> Phantom:
    return petct(PetCtRequest(seed=seed, lesions=lesions, spacing=(6.0, 6.0, 6.0)))


def volume_ml(made: Phantom) -> float:
    return float(made.mask.sum() * np.prod(made.spacing) / 1000)


@pytest.mark.parametrize("make", [head, trunk])
def test_the_same_seed_gives_the_same_phantom(make: Callable[..., Phantom]) -> None:
    """Voxels, mask and hazard depend on the seed alone."""
    first, again, other = make(5), make(5), make(6)
    for name in first.images:
        np.testing.assert_array_equal(first.images[name], again.images[name])
        assert not np.array_equal(first.images[name], other.images[name])
    np.testing.assert_array_equal(first.mask, again.mask)
    assert (first.lesions, first.log_hazard) == (again.lesions, again.log_hazard)


@pytest.mark.parametrize("make", [head, trunk])
def test_lesion_volumes_add_up_to_the_mask(make: Callable[..., Phantom]) -> None:
    """The volumes of the lesion table are the volume under the mask."""
    made = make(3, 2)
    assert len(made.lesions) == 2
    assert sum(lesion.volume_ml for lesion in made.lesions) == pytest.approx(volume_ml(made), rel=0.02)


@pytest.mark.parametrize("make", [head, trunk])
def test_a_normal_study_has_an_empty_mask(make: Callable[..., Phantom]) -> None:
    """No lesion asked for, none marked and none listed."""
    made = make(4, 0)
    assert not made.mask.any()
    assert made.lesions == ()


@pytest.mark.parametrize("make", [head, trunk])
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
