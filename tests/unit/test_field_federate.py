"""Federated averaging: the mean by hand, sites apart, resumed equals uninterrupted."""

import csv
import os
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from training.data.sample import Sample
from training.field.federate import LOG, Plan, Report, Task, average, federate, run_rounds
from training.field.local import normalisation, outline_steps, start, windows
from training.network import MultitaskNet
from training.settings import Settings, load

CONFIG = Path(__file__).parents[2] / "training" / "configs" / "brain-mri.toml"
PLAN = Plan(rounds=2, steps=2, seed=3)


@pytest.fixture(scope="module")
def settings() -> Settings:
    """A network as small as it gets."""
    read = load(CONFIG)
    network = read.network.model_copy(update={"widths": (2, 2, 4, 4, 4), "survival_width": 2})
    stages = read.stages.model_copy(update={"crop": 16, "batch": 2})
    return read.model_copy(update={"network": network, "stages": stages})


def site(folder: Path, count: int, bright: float = 3.0) -> Path:
    """Write a site's samples: a bright square is the tumour."""
    for index in range(count):
        rng = np.random.default_rng(index + 100 * count)
        image = rng.normal(0, 0.3, (1, 5, 24, 24))
        mask = np.zeros((5, 24, 24), np.uint8)
        mask[1:4, 6:14, 8:16] = 1
        image[0][mask > 0] += bright
        name = f"{folder.name}-{index}"
        Sample(name=name, source="test", image=image.astype(np.float16), mask=mask, tumour=1, spacing=(3, 1, 1)).save(
            folder
        )
    return folder


def begin(settings: Settings, out: Path) -> Path:
    torch.manual_seed(1)
    out.mkdir(parents=True)
    net = MultitaskNet(len(settings.recipe.channels) * settings.recipe.neighbours, settings.network)
    torch.save(net.state_dict(), out / "start.pt")
    return out


def in_turn(count: int) -> list[Executor]:
    """Return executors in this process, for tests of what is computed rather than where."""
    return [ThreadPoolExecutor(max_workers=1)] * count


def test_the_mean_is_weighted_by_samples() -> None:
    """Three samples of 1 and one of 5 give 2; counters take the highest; no sample at all is an error."""
    states = [{"w": torch.tensor([1.0]), "n": torch.tensor(7)}, {"w": torch.tensor([5.0]), "n": torch.tensor(9)}]
    mean = average(states, [3, 1])
    assert mean["w"].item() == 2.0
    assert mean["n"].item() == 9
    with pytest.raises(ValueError, match="no site"):
        average(states, [0, 0])


def add_samples(task: Task) -> Report:
    """Add the site's number of samples to every weight."""
    count = len(list(task.site.glob("*.npz")))
    state = torch.load(task.start, weights_only=True)
    torch.save({n: w + count for n, w in state.items()}, task.out)
    return Report(samples=count, loss=0.0)


def test_a_round_is_local_steps_and_their_mean(settings: Settings, tmp_path: Path) -> None:
    """Sites of 1 and 3 samples that add their number move a weight by (1*1 + 3*3) / 4 = 2.5 a round."""
    sites = [site(tmp_path / "a", 1), site(tmp_path / "b", 3)]
    out = tmp_path / "out"
    out.mkdir()
    torch.save({"w": torch.zeros(2)}, out / "start.pt")
    final = run_rounds(settings, (sites, in_turn(2)), PLAN, add_samples, out)
    assert torch.load(final, weights_only=True)["w"].tolist() == [5.0, 5.0]
    with (out / LOG).open() as file:
        rows = list(csv.reader(file))
    assert [r[:3] for r in rows[1:]] == [["1", "a", "1"], ["1", "b", "3"], ["2", "a", "1"], ["2", "b", "3"]]


def test_resumed_equals_uninterrupted(settings: Settings, tmp_path: Path) -> None:
    """One round and later a second give the same bits as two at once, FedBN and FedProx included."""
    sites = [site(tmp_path / "a", 1), site(tmp_path / "b", 2, bright=1.0)]
    plan = replace(PLAN, local_norm=True, prox=0.1)
    whole = run_rounds(settings, (sites, in_turn(2)), plan, outline_steps, begin(settings, tmp_path / "whole"))
    parts = begin(settings, tmp_path / "parts")
    run_rounds(settings, (sites, in_turn(2)), replace(plan, rounds=1), outline_steps, parts)
    second = run_rounds(settings, (sites, in_turn(2)), plan, outline_steps, parts)
    first, again = (torch.load(p, weights_only=True) for p in (whole, second))
    assert all(torch.equal(first[name], again[name]) for name in first)
    with pytest.raises(ValueError, match="another plan"):
        run_rounds(settings, (sites, in_turn(2)), replace(plan, prox=0.0), outline_steps, parts)


def task(settings: Settings, folder: Path, plan: Plan) -> Task:
    out = begin(settings, folder / "out")
    return Task(
        site=site(folder / "s", 2), settings=settings, plan=plan, start=out / "start.pt", own=None,
        out=out / "local.pt", seed=5,
    )  # fmt: skip


def test_prox_holds_a_site_near(settings: Settings, tmp_path: Path) -> None:
    """The stronger the pull, the less a site leaves the common weights."""
    moved = []
    for prox in (0.0, 1000.0):
        wanted = task(settings, tmp_path / str(prox), replace(PLAN, steps=12, prox=prox))
        outline_steps(wanted)
        before, after = (torch.load(p, weights_only=True) for p in (wanted.start, wanted.out))
        names = [n for n, _ in start(wanted).named_parameters()]
        moved.append(sum(float((after[n] - before[n]).square().sum()) for n in names))
    assert moved[1] < 0.5 * moved[0]


def test_a_site_keeps_its_own_normalisation(settings: Settings, tmp_path: Path) -> None:
    """With weights of its own a site starts from the common convolutions and its own BatchNorm."""
    wanted = task(settings, tmp_path, PLAN)
    outline_steps(wanted)
    own = torch.load(wanted.out, weights_only=True)
    common = torch.load(wanted.start, weights_only=True)
    begun = start(replace(wanted, own=wanted.out)).state_dict()
    kept = set(normalisation(start(wanted)))
    assert any(name.endswith("running_mean") for name in kept)
    assert all(torch.equal(begun[n], own[n] if n in kept else common[n]) for n in begun)
    assert any(not torch.equal(own[n], common[n]) for n in kept)


def test_sites_learn(settings: Settings, tmp_path: Path) -> None:
    """Training lowers the site's loss."""
    wanted = task(settings, tmp_path, replace(PLAN, steps=3))
    early = outline_steps(wanted).loss
    outline_steps(replace(wanted, plan=replace(PLAN, steps=60)))
    late = outline_steps(replace(wanted, start=wanted.out)).loss
    assert late < early - 0.1


def test_windows_show_image_and_mask_of_one_place(settings: Settings, tmp_path: Path) -> None:
    """The centre channel is bright exactly where the mask is 1, also at edges and mirrored."""
    (path,) = site(tmp_path / "s", 1, bright=9.0).glob("*.npz")
    for image, mask in windows([Sample.load(path)], settings, 5, seed=2):
        assert image.shape == (2, 5, 16, 16)
        assert torch.equal((image[:, 2:3] > 4).float(), mask)


def test_what_is_missing_is_said(settings: Settings, tmp_path: Path) -> None:
    """One site, an empty one, no first weights: each is named."""
    one = site(tmp_path / "a", 1)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(ValueError, match="two folders or more"):
        federate(settings, [one], PLAN, outline_steps, out)
    (tmp_path / "b").mkdir()
    with pytest.raises(FileNotFoundError, match="site b holds no sample"):
        federate(settings, [one, tmp_path / "b"], PLAN, outline_steps, out)
    site(tmp_path / "b", 1)
    with pytest.raises(FileNotFoundError, match=r"start\.pt is missing"):
        federate(settings, [one, tmp_path / "b"], PLAN, outline_steps, out)


def tell_process(task: Task) -> Report:
    """Train, and tell the process's number in place of the loss."""
    return replace(outline_steps(task), loss=float(os.getpid()))


def test_each_site_has_a_process_of_its_own(settings: Settings, tmp_path: Path) -> None:
    """A site's samples are opened by one process, the same in all rounds, neither this one nor another site's."""
    sites = [site(tmp_path / "a", 1), site(tmp_path / "b", 1)]
    out = begin(settings, tmp_path / "out")
    federate(settings, sites, replace(PLAN, steps=1), tell_process, out)
    with (out / LOG).open() as file:
        processes = [int(float(row["loss"])) for row in csv.DictReader(file)]
    assert processes[:2] == processes[2:]
    assert len({*processes, os.getpid()}) == 3
    alone = begin(settings, tmp_path / "alone")
    run_rounds(settings, (sites, in_turn(2)), replace(PLAN, steps=1), outline_steps, alone)
    first, again = (torch.load(o / "round-0002.pt", weights_only=True) for o in (out, alone))
    assert all(torch.allclose(first[n].float(), again[n].float(), atol=1e-6) for n in first)
