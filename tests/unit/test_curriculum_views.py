"""Slices shown alone: as a picture's, in any plane; and runs that go on from an earlier one."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.cohorts import cohort, make, tiny
from training.curriculum import views
from training.curriculum.crops import Crops
from training.curriculum.learnt import FILE, Learnt
from training.curriculum.stages import train
from training.curriculum.store import Cohort
from training.data.sample import Sample
from training.settings import AugmentSettings


def marked() -> tuple[Sample, np.ndarray]:
    """Return a sample with a tumour, and its mask."""
    sample = make("ill", 3, ill=True)
    assert sample.mask is not None
    return sample, np.asarray(sample.mask)


def test_chances_are_kept() -> None:
    """At half the strength a third of a chance is a sixth; none without strength."""
    rng = np.random.default_rng(1)
    settings = AugmentSettings(strength=0.5, flat=0.4, planes=0.2)
    drawn = [views.draw(rng, settings) for _ in range(4000)]
    shares = {plane: drawn.count(plane) / 4000 for plane in ("axial", "coronal", "sagittal", None)}
    assert shares == pytest.approx({"axial": 0.2, "coronal": 0.05, "sagittal": 0.05, None: 0.7}, abs=0.02)
    assert views.draw(rng, AugmentSettings(strength=0, flat=1.0)) is None


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_the_mask_lies_on_the_tumour(plane: views.Plane) -> None:
    """The tumour is bright, so where the mask is the picture is brighter, in every plane."""
    sample, mask = marked()
    view = views.single(sample, mask, plane, np.random.default_rng(2), aim=True)
    assert view.mask.any()
    assert view.image.shape[1:] == view.mask.shape
    assert view.image[0][view.mask].mean() > view.image[0][~view.mask].mean() + 2


def test_other_planes_stand_upright_with_square_pixels() -> None:
    """The last slice is the top row; slices of 3 mm fill three rows of 1 mm."""
    volume = np.zeros((1, 6, 1, 8), np.float32)
    volume[0, 5] = 1
    seen = views.upright(volume[:, :, 0], "coronal", (3.0, 1.0, 1.0))
    assert seen.shape == (1, 18, 8)
    assert seen[0, 0].min() == 1
    assert seen[0, -1].max() == 0


def test_a_slice_alone_stands_in_for_its_neighbours() -> None:
    """Every input channel shows the same; without the setting neighbours differ."""
    sample, _ = marked()
    alone, among = (
        Crops([sample], tiny(augment__strength=strength, augment__flat=1.0, augment__planes=0.0), (1,))[0].image
        for strength in (1.0, 0.0)
    )
    noise = (alone - alone[:, :1]).abs().amax(dim=(1, 2, 3))
    assert (among - among[:, :1]).abs().amax(dim=(1, 2, 3)).min() > 1
    assert noise.min() == 0


def test_volumes_have_no_slices_to_show() -> None:
    """A 3-D network sees neighbours by itself."""
    with pytest.raises(ValueError, match=r"augment\.flat"):
        tiny(network__spatial_dims=3, recipe__neighbours=1, stages__crop_slices=32, augment__flat=0.1)


def test_a_run_goes_on_from_an_earlier_ones_warm_up(tmp_path: Path) -> None:
    """With a rate of nothing the weights stay those of the earlier run."""
    known = cohort(tmp_path)
    only_warm_up = {"stages__head_epochs": 0, "stages__joint_steps": 0, "stages__settle_epochs": 0}
    train(tiny(**only_warm_up), known, tmp_path / "first")
    settings = tiny(
        **only_warm_up, stages__start=str(tmp_path / "first"), stages__warmup_steps=2, stages__learning_rate=1e-12
    )
    train(settings, known, tmp_path / "second")
    first, second = (torch.load(tmp_path / name / "stages" / "warmup.pt") for name in ("first", "second"))
    for name in (n for n in first if n.endswith("weight")):
        torch.testing.assert_close(first[name], second[name], atol=1e-6, rtol=0)


def test_an_earlier_run_may_not_have_seen_who_is_measured(tmp_path: Path) -> None:
    """Over two generations: nobody learnt from may tune or test, nobody tuned with may test, and all are passed on."""
    one_step = {f"stages__{name}": 0 for name in ("head_epochs", "joint_steps", "settle_epochs")}
    one_step["stages__warmup_steps"] = 1
    known = cohort(tmp_path)
    train(tiny(**one_step), known, tmp_path / "first")
    from_first = {**one_step, "stages__start": str(tmp_path / "first")}
    new = [make("new", 50, ill=True)]
    train(tiny(**from_first), Cohort(train=new, tune=known.tune), tmp_path / "second")
    before = {seen.name for seen in Learnt.load(tmp_path / "second").before}
    assert before == {sample.name for sample in known.train}
    from_second = tiny(**one_step, stages__start=str(tmp_path / "second"))
    late, fresh = ([make(name, 51, ill=True)] for name in ("late", "fresh"))
    leaks = ((known.tune, "train-03"), (known.tune, "new"), (fresh, "tune-01"), (known.train[:3], "nobody"))
    for tune, measured in leaks:
        leaking = Cohort(train=late, tune=tune, measured=frozenset({measured}))
        with pytest.raises(ValueError, match=r"second, which this run begins with, has seen .*without --start"):
            train(from_second, leaking, tmp_path / "third")
    train(from_second, Cohort(train=late, tune=known.tune, measured=frozenset({"nobody"})), tmp_path / "third")
    (tmp_path / "first" / FILE).unlink()
    with pytest.raises(FileNotFoundError, match="nobody knows whom that run learnt from"):
        train(tiny(**from_first), known, tmp_path / "fourth")


def test_a_run_that_is_not_there_is_named(tmp_path: Path) -> None:
    """What to do about it is said."""
    with pytest.raises(FileNotFoundError, match=r"nowhere.*train that run first"):
        train(tiny(stages__start=str(tmp_path / "nowhere")), cohort(tmp_path), tmp_path / "run")
