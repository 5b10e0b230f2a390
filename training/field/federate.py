"""Federated averaging (McMahan et al. 2017), simulated on one machine (docs/adr/0005).

Each site trains in a process of its own, which alone opens that site's samples; only weights and counts come out.
FedProx (Li et al. 2020) holds sites near the common network; with local normalisation (FedBN, Li et al. 2021) each site
keeps its own BatchNorm.
"""

import csv
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor

from training.settings import Settings

State = Mapping[str, Tensor]
PLAN = "federation.json"
LOG = "federation.csv"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Rounds, steps of each site in a round, FedProx's weight (0 is plain averaging), BatchNorm kept at the site."""

    rounds: int
    steps: int
    prox: float = 0.0
    local_norm: bool = False
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Task:
    """One site's share of a round: start from `start`, write weights to `out`.

    `own` are the site's weights of the round before, whose normalisation it keeps; None where it shares all.
    """

    site: Path
    settings: Settings
    plan: Plan
    start: Path
    own: Path | None
    out: Path
    seed: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a site tells besides its weights."""

    samples: int
    loss: float


LocalStep = Callable[[Task], Report]


def federate(settings: Settings, sites: Sequence[Path], plan: Plan, local: LocalStep, out: Path) -> Path:
    """Run the rounds that are not done yet and return the common weights' file.

    Args:
        settings: of the network.
        sites: one folder of samples each.
        plan: what to do.
        local: a site's training; importable by name, since it runs in the site's process.
        out: holds `start.pt` (the first weights), and gets one file a round.

    Raises:
        ValueError: fewer than two sites, two of one name, or `out` holds rounds of another plan.
        FileNotFoundError: a site holds no sample.
    """
    with ExitStack() as stack:
        spawn = get_context("spawn")
        pools: list[Executor] = [
            stack.enter_context(ProcessPoolExecutor(max_workers=1, mp_context=spawn)) for _ in sites
        ]
        return run_rounds(settings, (sites, pools), plan, local, out)


def run_rounds(
    settings: Settings, sites: tuple[Sequence[Path], Sequence[Executor]], plan: Plan, local: LocalStep, out: Path
) -> Path:
    """Do as `federate` does, each site in its executor."""
    folders, pools = sites
    _check(folders, plan, out)
    done = max((int(p.stem.split("-")[1]) for p in out.glob("round-*.pt")), default=0)
    for number in track(range(done + 1, plan.rounds + 1), description="rounds"):
        start = _round(out, number - 1)
        tasks = [_task(settings, folder, plan, (out, number, start)) for folder in folders]
        reports = [future.result() for future in [p.submit(local, t) for p, t in zip(pools, tasks, strict=True)]]
        states = [torch.load(task.out, weights_only=True) for task in tasks]
        _note(out, number, [(f.name, r) for f, r in zip(folders, reports, strict=True)])
        _keep(average(states, [r.samples for r in reports]), _round(out, number))
    return _round(out, plan.rounds)


def average(states: Sequence[State], samples: Sequence[int]) -> dict[str, Tensor]:
    """Return the mean of the sites' weights by their numbers of samples; of counters the highest."""
    total = sum(samples)
    if not total:
        raise ValueError("no site has a sample; nothing can be averaged")
    mean = {}
    for name, first in states[0].items():
        values = torch.stack([state[name] for state in states])
        if first.is_floating_point():
            shares = torch.tensor(samples, dtype=torch.float64) / total
            mean[name] = torch.tensordot(shares, values.double(), dims=1).to(first.dtype)
        else:
            mean[name] = values.amax(dim=0)
    return mean


def _check(sites: Sequence[Path], plan: Plan, out: Path) -> None:
    names = [site.name for site in sites]
    if len(sites) < 2 or len(set(names)) < len(names):
        raise ValueError(f"sites {', '.join(names) or 'none'}: a federation takes two folders or more of unlike names")
    for site in sites:
        if not any(site.glob("*.npz")):
            raise FileNotFoundError(f"site {site.name} holds no sample (*.npz); harvest or prepare some there")
    if not (out / "start.pt").is_file():
        raise FileNotFoundError(f"{out / 'start.pt'} is missing; it holds the weights to begin with")
    # More rounds may be asked for later; all else would make the rounds that are there another federation's.
    wanted = {**asdict(plan), "rounds": None, "sites": names}
    record = out / PLAN
    if record.is_file() and json.loads(record.read_text(encoding="utf-8")) != wanted:
        raise ValueError(f"{out} holds rounds of another plan or other sites; give another folder or the same plan")
    record.write_text(json.dumps(wanted), encoding="utf-8")


def _task(settings: Settings, site: Path, plan: Plan, where: tuple[Path, int, Path]) -> Task:
    out, number, start = where
    folder = out / "sites" / site.name
    folder.mkdir(parents=True, exist_ok=True)
    before = folder / f"round-{number - 1:04d}.pt"
    # The name, not the place in the list, so that the order of sites changes nothing.
    seed = int.from_bytes(hashlib.sha256(f"{plan.seed} {number} {site.name}".encode()).digest()[:4])
    return Task(
        site=site,
        settings=settings,
        plan=plan,
        start=start,
        own=before if plan.local_norm and before.is_file() else None,
        out=folder / f"round-{number:04d}.pt",
        seed=seed,
    )


def _round(out: Path, number: int) -> Path:
    return out / f"round-{number:04d}.pt" if number else out / "start.pt"


def _keep(state: State, path: Path) -> None:
    """Write weights whole or not at all."""
    partial = path.with_suffix(".part")
    torch.save(dict(state), partial)
    partial.rename(path)


def _note(out: Path, number: int, reports: Sequence[tuple[str, Report]]) -> None:
    """Write the round's rows to the log, in place of what a stopped round left there."""
    path = out / LOG
    head = ["round", "site", "samples", "loss"]
    rows = []
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file) if row and row != head and int(row[0]) < number]
    rows += [[str(number), name, str(r.samples), f"{r.loss:.5f}"] for name, r in reports]
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])
