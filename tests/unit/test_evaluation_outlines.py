"""Scores of one study's outline, against values worked by hand."""

import numpy as np
import pytest
import torch
from monai.losses.dice import DiceLoss
from numpy.typing import NDArray

from training.evaluation.overlap import Ruler, overlap
from training.evaluation.values import Overlap

SHAPE = (4, 10, 20)
RULER = Ruler(spacing=(3.0, 1.0, 2.0), tolerance_mm=1.0)
DIAGONAL = float(np.sqrt(12**2 + 10**2 + 40**2))


def _mask(*boxes: tuple[slice, slice, slice]) -> NDArray[np.bool_]:
    mask = np.zeros(SHAPE, dtype=bool)
    for box in boxes:
        mask[box] = True
    return mask


def _score(outline: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Overlap:
    return overlap(outline, truth, RULER)


BLOCK = (slice(1, 3), slice(2, 6), slice(2, 6))
HALF = (slice(1, 3), slice(2, 4), slice(2, 6))
FAR = (slice(1, 2), slice(2, 3), slice(15, 17))


def test_a_half_outlined_block_has_the_scores_worked_by_hand() -> None:
    """16 of 32 voxels of 6 cubic mm: Dice 2*16/48, IoU 16/32; the far surface lies 2 rows of 1 mm away."""
    scores = _score(_mask(HALF), _mask(BLOCK))
    assert scores.dice == pytest.approx(2 / 3)
    assert scores.iou == pytest.approx(0.5)
    assert [scores.true_ml, scores.outlined_ml] == pytest.approx([0.192, 0.096])
    assert scores.hd95_mm == pytest.approx(2.0)
    loss = DiceLoss(smooth_nr=0, smooth_dr=0)
    pair = [torch.from_numpy(_mask(box)).float()[None, None] for box in (HALF, BLOCK)]
    assert scores.dice == pytest.approx(1 - float(loss(*pair)))


def test_a_shift_within_the_tolerance_costs_dice_but_no_surface() -> None:
    """One row of 1 mm is within 1 mm: surface Dice and boundary F stay 1; two rows are not."""
    near = _mask((slice(1, 3), slice(3, 7), slice(2, 6)))
    scores = _score(near, _mask(BLOCK))
    assert scores.dice == pytest.approx(0.75)
    assert [scores.surface_dice, scores.boundary_f] == pytest.approx([1.0, 1.0])
    assert scores.hd95_mm == pytest.approx(1.0)
    farther = _score(_mask((slice(1, 3), slice(4, 8), slice(2, 6))), _mask(BLOCK))
    assert farther.surface_dice is not None
    assert 0 < farther.surface_dice < 1


def test_boundary_f_is_the_harmonic_mean_of_both_shares() -> None:
    """A point on the end of a bar of six points 2 mm apart: precision 1, recall 1/6 within 1 mm."""
    bar, point = (slice(1, 2), slice(2, 3), slice(2, 8)), (slice(1, 2), slice(2, 3), slice(2, 3))
    scores = _score(_mask(point), _mask(bar))
    assert scores.boundary_f == pytest.approx(2 * (1 / 6) / (1 + 1 / 6))
    assert scores.surface_dice == pytest.approx(2 / 7)


@pytest.mark.parametrize(("outline", "truth"), [((), (BLOCK,)), ((BLOCK,), ())], ids=["a miss", "a false alarm"])
def test_a_miss_and_a_false_alarm_score_zero_and_the_diagonal(
    outline: tuple[tuple[slice, slice, slice], ...], truth: tuple[tuple[slice, slice, slice], ...]
) -> None:
    """Nothing is left out of a mean: overlap 0 and the image's diagonal in mm."""
    scores = _score(_mask(*outline), _mask(*truth))
    assert (scores.dice, scores.iou, scores.surface_dice, scores.boundary_f) == (0, 0, 0, 0)
    assert scores.hd95_mm == pytest.approx(DIAGONAL)


def test_two_empty_masks_have_no_overlap_to_score() -> None:
    """A tumour-free study with nothing outlined is right, but has no Dice."""
    scores = _score(_mask(), _mask())
    assert (scores.dice, scores.hd95_mm, scores.true_lesions, scores.outlined_lesions) == (None, None, 0, 0)
    assert (scores.false_negative_ml, scores.false_positive_ml) == (0, 0)


def test_lesions_are_met_or_stand_apart_with_their_volume() -> None:
    """Of two lesions one is touched; of two outlined parts one touches none."""
    stray = (slice(3, 4), slice(8, 10), slice(0, 2))
    scores = _score(_mask(HALF, stray), _mask(BLOCK, FAR))
    assert (scores.true_lesions, scores.found_lesions) == (2, 1)
    assert (scores.outlined_lesions, scores.right_lesions) == (2, 1)
    assert scores.false_negative_ml == pytest.approx(2 * 0.006)
    assert scores.false_positive_ml == pytest.approx(4 * 0.006)


def test_parts_that_touch_at_a_corner_are_one_lesion() -> None:
    """Lesions are 26-connected, as the daemon's are."""
    corner = (slice(3, 4), slice(6, 8), slice(6, 8))
    assert _score(_mask(), _mask(BLOCK, corner)).true_lesions == 1


def test_a_mask_at_the_images_edge_has_its_whole_surface() -> None:
    """Cutting and padding change no distance: the same masks in the middle and at the corner score alike."""
    corner = _score(_mask((slice(0, 2), slice(0, 2), slice(0, 4))), _mask((slice(0, 2), slice(0, 4), slice(0, 4))))
    middle = _score(_mask(HALF), _mask(BLOCK))
    for name in ("dice", "hd95_mm", "surface_dice", "boundary_f"):
        assert getattr(corner, name) == pytest.approx(getattr(middle, name))
