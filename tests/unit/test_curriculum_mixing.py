"""How sources are drawn: mixed by weight, alternating, single; names stand for what begins with them."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.cohorts import make, tiny
from training.curriculum.crops import Crops, Picker
from training.curriculum.stages import train
from training.curriculum.store import Cohort
from training.settings import MixingSettings

SOURCES = ("BraTS FLAIR", "BraTS T2", "ours")
SAMPLES = [make(f"{s}-{i}", i, ill=i % 2 == 0, source=s) for s in SOURCES for i in range(4)]


def drawn(mixing: dict[str, object], count: int = 600) -> Counter[str]:
    """Return how often each source was drawn."""
    picker = Picker(SAMPLES, MixingSettings.model_validate(mixing))
    rng = np.random.default_rng(1)
    return Counter(SAMPLES[picker.pick(rng, step)[0]].source for step in range(count))


def test_weights_of_a_longer_name_win() -> None:
    """BraTS counts thrice, its T2 not at all."""
    found = drawn({"weights": {"BraTS": 3.0, "BraTS T2": 0.0}})
    assert found["BraTS T2"] == 0
    assert found["BraTS FLAIR"] / found["ours"] == pytest.approx(3, rel=0.3)


def test_alternating_sources_take_turns() -> None:
    """Each source has its step, whatever its size."""
    assert drawn({"mode": "alternating"}, count=9) == dict.fromkeys(SOURCES, 3)


def test_a_single_source_may_have_several_parts() -> None:
    """Only what begins with the name is drawn."""
    assert set(drawn({"mode": "single", "only": "BraTS"})) == {"BraTS FLAIR", "BraTS T2"}


@pytest.mark.parametrize("mixing", [{"weights": {"UCSF": 2.0}}, {"mode": "single", "only": "UCSF"}])
def test_a_name_that_no_source_has_is_refused(mixing: dict[str, object]) -> None:
    """The sources that there are are told."""
    with pytest.raises(ValueError, match=r"UCSF.*BraTS FLAIR"):
        drawn(mixing)


def test_nothing_left_to_draw_is_refused() -> None:
    """All weights are 0."""
    with pytest.raises(ValueError, match="no sample is left"):
        drawn({"weights": {"BraTS": 0.0, "ours": 0.0}})


@pytest.mark.parametrize("mixing", [{"mode": "single", "only": "BraTS"}, {"weights": {"ours": 0.0}}])
def test_the_heads_leave_out_what_is_never_drawn(tmp_path: Path, mixing: dict[str, object]) -> None:
    """They end at the same bits as if only the other sources were there."""
    steps = {"warmup_steps": 0, "head_epochs": 2, "joint_steps": 0, "settle_epochs": 1}
    few = {f"stages__{name}": count for name, count in steps.items()}
    tune = [make(f"tune-{i}", 50 + i, ill=i % 2 == 0) for i in range(2)]
    left = [s for s in SAMPLES if s.source != "ours"]
    changes = {f"mixing__{name}": value for name, value in mixing.items()}
    whole = train(tiny(**few, **changes), Cohort(train=SAMPLES, tune=tune), tmp_path / "whole").state_dict()
    alone = train(tiny(**few), Cohort(train=left, tune=tune), tmp_path / "alone").state_dict()
    assert all(torch.equal(value, alone[name]) for name, value in whole.items())


def test_tumours_have_their_share() -> None:
    """Half of the samples have one, but they are drawn as often as asked for."""
    picker = Picker(SAMPLES, MixingSettings(tumour_share=0.8))
    rng = np.random.default_rng(1)
    ill = np.mean([bool(SAMPLES[picker.pick(rng, step)[0]].tumour) for step in range(600)])
    assert ill == pytest.approx(0.9, abs=0.05)


def test_what_shows_nothing_teaches_nothing() -> None:
    """Half of the slices are empty, as above and below an extracted brain; none is drawn."""
    framed = make("framed", 1, ill=False)
    framed.image[:, 3:] = framed.image.min()
    settings = tiny(augment__strength=0, mixing__tumour_share=0)
    crops = Crops([framed], settings, (1,))
    middle = settings.recipe.neighbours // 2
    shown = [image[middle].std() > 0.1 for step in range(8) for image in crops[step].image]
    assert len(shown) == 32
    assert all(shown)
