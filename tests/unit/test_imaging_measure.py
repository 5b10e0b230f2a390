"""Diameters by brute force, and preprocessing against outliers, air and aliasing."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from daemon.imaging.lesions import Maps, longest, measure
from daemon.imaging.steps import normalise, prepare
from daemon.imaging.volume import Grid, Volume
from tests.manifests import BRAIN, PETCT

TILTED = ((0.0, -0.6, 0.8), (0.0, 0.8, 0.6), (1.0, 0.0, 0.0))
GRID = Grid(size=(5, 7, 7), spacing=(3.0, 0.7, 1.1), origin=(4.0, -2.0, 9.0), axes=TILTED)


@settings(deadline=None)
@given(st.lists(st.tuples(*(st.integers(0, n - 1) for n in GRID.size)), min_size=1, max_size=60, unique=True))
def test_the_longest_diameter_is_that_of_all_pairs(voxels: list[tuple[int, int, int]]) -> None:
    """Comparing corners of slice hulls finds what comparing every pair of voxels finds."""
    indices = np.array(sorted(voxels))
    points = GRID.points(indices)
    brute = float(np.linalg.norm(points[:, None] - points[None], axis=2).max())
    assert np.isclose(longest(indices, GRID), brute)


def test_lesions_that_touch_at_a_corner_are_one() -> None:
    """Connectivity is over 26 neighbours; apart they are two, the larger first."""
    probability = np.zeros(GRID.size, dtype=np.float32)
    probability[1, 1, 1] = probability[2, 2, 2] = 0.9
    maps = Maps(probability=probability, sd=np.zeros_like(probability))
    assert len(measure(maps, GRID, 0.5, 0.0)[0]) == 1
    probability[2, 2, 2], probability[4, 5, 5], probability[4, 5, 4] = 0, 0.9, 0.9
    lesions, labels = measure(maps, GRID, 0.5, 0.0)
    assert [(lesion.number, lesion.slices, lesion.key_slice) for lesion in lesions] == [(1, (4, 4), 4), (2, (1, 1), 1)]
    assert labels[4, 5, 5] == 1


def head() -> NDArray[np.float32]:
    voxels = np.random.default_rng(1).normal(2, 1, (20, 40, 40)).astype(np.float32)
    voxels[4:16, 8:32, 8:32] += 100
    return voxels


def test_one_bright_artefact_does_not_darken_the_head() -> None:
    """A few voxels a thousand times as bright leave the rest's z-scores as they were."""
    channel, clean, spoilt = BRAIN.recipe.channels[0], head(), head()
    spoilt[0, 0, :5] = 1e5
    difference = np.abs(normalise(clean, channel) - normalise(spoilt, channel))
    assert np.median(difference) < 0.1
    assert np.abs(normalise(spoilt, channel)[4:16, 8:32, 8:32].mean()) < 0.5


def test_beyond_the_ct_there_is_air() -> None:
    """Where the PET reaches beyond the CT, the CT channel is air, not water."""
    pet = Grid(size=(20, 32, 32), spacing=(4.0, 4.0, 4.0), origin=(0.0, 0.0, 0.0))
    ct = replace(pet, size=(5, 32, 32))
    volumes = {
        "PET": Volume(voxels=np.ones(pet.size, dtype=np.float32), grid=pet),
        "CT": Volume(voxels=np.full(ct.size, 40.0, dtype=np.float32), grid=ct),
    }
    channel = prepare(volumes, PETCT.recipe).array[1]
    assert np.allclose(channel[1:4], (40 + 250) / 600, atol=1e-4)
    assert not channel[10:].any()


def test_fine_slices_are_smoothed_before_they_are_thinned() -> None:
    """Stripes finer than the model grid average out instead of folding into coarse ones."""
    fine = Grid(size=(96, 32, 32), spacing=(1.0, 4.0, 4.0), origin=(0.0, 0.0, 0.0))
    stripes = np.zeros(fine.size, dtype=np.float32)
    stripes[::2] = 12.0
    volumes = {role: Volume(voxels=stripes, grid=fine) for role in ("PET", "CT")}
    inner = prepare(volumes, PETCT.recipe).array[0, 3:-3]
    assert np.allclose(inner, 0.5, atol=0.1)
