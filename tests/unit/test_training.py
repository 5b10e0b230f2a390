"""Losses, calibration, samples and follow-up against known values."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from lifelines import CoxPHFitter
from lifelines.utils import concordance_index

from training import losses
from training.calibration.figures import auc
from training.curriculum.crops import Crops
from training.data.sample import Sample
from training.data.synthetic import follow_up
from training.network import channel_mask
from training.settings import load

CONFIG = Path(__file__).parents[2] / "training" / "configs" / "brain-mri.toml"


def test_cox_loss_by_hand() -> None:
    """Three subjects: deaths at 1 and 2, censored at 3."""
    risk = torch.tensor([0.5, -0.2, 0.1])
    first = 0.5 - math.log(math.exp(0.5) + math.exp(-0.2) + math.exp(0.1))
    second = -0.2 - math.log(math.exp(-0.2) + math.exp(0.1))
    expected = -(first + second) / 2
    loss = losses.cox(risk, torch.tensor([1, 1, 0]), torch.tensor([1.0, 2.0, 3.0]))
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_cox_loss_with_ties_agrees_with_lifelines() -> None:
    """Efron's likelihood at lifelines' own coefficient is lifelines' log likelihood."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=60)
    time = np.ceil(rng.exponential(np.exp(-x)) * 5)
    event = rng.random(60) < 0.7
    table = pd.DataFrame({"x": x, "time": time, "event": event.astype(int)})
    fitted = CoxPHFitter().fit(table, "time", "event")
    risk = torch.tensor(x * fitted.params_["x"], dtype=torch.float64)
    loss = losses.cox(risk, torch.tensor(event.astype(int)), torch.tensor(time))
    assert loss.item() * event.sum() == pytest.approx(-fitted.log_likelihood_, rel=1e-3)


def test_cox_loss_without_events_is_zero() -> None:
    """Nobody died: nothing to learn, no NaN."""
    assert losses.cox(torch.tensor([1.0, 2.0]), torch.tensor([0, 0]), torch.tensor([1.0, 2.0])).item() == 0


def test_outline_losses_prefer_the_truth() -> None:
    """A perfect outline costs almost nothing, its inverse much; an empty slice is no NaN."""
    mask = torch.zeros(2, 1, 16, 16)
    mask[0, 0, 4:10, 4:10] = 1
    for loss in (losses.dice_bce, losses.focal_tversky):
        assert loss((mask * 2 - 1) * 20, mask) < 0.05
        assert loss((1 - mask * 2) * 20, mask) > 0.5
        assert torch.isfinite(loss(torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 16)))


def test_cells_see_a_tumour_of_one_voxel() -> None:
    """A single tumour voxel makes its whole cell positive."""
    mask = torch.zeros(1, 1, 32, 32)
    mask[0, 0, 20, 3] = 1
    cam = torch.full((1, 1, 2, 2), -20.0)
    cam[0, 0, 1, 0] = 20.0
    assert losses.cells(cam, mask) < 1e-6


def test_masks_keep_the_mean() -> None:
    """Dropout masks are 0 or 1/(1-rate), 1 on average, and all ones at rate 0."""
    mask = channel_mask((1, 10000, 1, 1), 0.25, torch.Generator().manual_seed(1))
    assert mask.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert mask.mean().item() == pytest.approx(1, abs=0.03)
    assert torch.equal(channel_mask((1, 4), 0.0), torch.ones(1, 4))


def test_auc_by_hand() -> None:
    """Of four pairs three are in order: 0.75."""
    assert auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1])) == 0.75


def test_follow_up_follows_its_hazard() -> None:
    """Drawn times order by hazard as the oracle should; censoring happens and is marked."""
    rng = np.random.default_rng(4)
    hazards = rng.normal(size=2000)
    drawn = [follow_up(rng, float(h), 1 / 900, 2200) for h in hazards]
    times, events = [d for d, _ in drawn], [e for _, e in drawn]
    assert 0.65 < concordance_index(times, -hazards, events) < 0.85
    assert 0.3 < np.mean(events) < 0.9


def sample(tmp_path: Path) -> Sample:
    image = np.random.default_rng(1).standard_normal((1, 6, 48, 64)).astype(np.float16)
    mask = np.zeros((6, 48, 64), np.uint8)
    mask[2:4, 10:20, 10:20] = 1
    made = Sample(
        name="s",
        source="test",
        image=image,
        mask=mask,
        tumour=1,
        spacing=(3.0, 1.0, 1.0),
        patient="p1",
        strata=("small",),
        time_days=10.0,
        event=1,
        covariates={"age_years": 61.0},
    )
    return Sample.load(made.save(tmp_path))


def test_samples_survive_the_cache(tmp_path: Path) -> None:
    """What is cached comes back as it was."""
    made = sample(tmp_path)
    assert (made.tumour, made.time_days, made.event, made.log_hazard) == (1, 10.0, 1, None)
    assert (made.spacing, made.strata, made.covariates) == ((3.0, 1.0, 1.0), ("small",), {"age_years": 61.0})
    assert made.mask is not None
    assert made.mask.sum() == 200


def test_equal_seeds_draw_equal_batches(tmp_path: Path) -> None:
    """Crops are a function of their seed, of the asked size, and image and mask move together."""
    settings = load(CONFIG).changed({"stages.crop": 32, "stages.batch": 4})
    draws = [Crops([sample(tmp_path)], settings, (seed,))[0] for seed in (1, 1, 2)]
    assert torch.equal(draws[0].image, draws[1].image)
    assert not torch.equal(draws[0].image, draws[2].image)
    assert draws[0].image.shape == (4, 5, 32, 32)
    assert draws[0].mask.shape == (4, 1, 32, 32)
