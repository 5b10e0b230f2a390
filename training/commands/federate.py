"""`federate`: sites learn together without sharing samples."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from torch import Tensor

from training.commands.refusal import refusal
from training.field.federate import LOG, Plan
from training.field.federate import federate as run
from training.field.local import outline_steps
from training.network import MultitaskNet
from training.settings import Settings, load


def federate(
    sites: Annotated[list[Path], typer.Argument(help="Folders of samples, one a site.")],
    config: Annotated[Path, typer.Option(help="Settings of the network and its training.")],
    out: Annotated[Path, typer.Option(help="Folder for the rounds; what is there goes on.")],
    plan: Annotated[str, typer.Option(help="ROUNDS x STEPS, such as 10x200.")] = "10x200",
    prox: Annotated[float, typer.Option(min=0, help="FedProx: pull to the common weights.")] = 0.0,
    local_norm: Annotated[bool, typer.Option(help="FedBN: each site keeps its own BatchNorm.")] = False,
    weights: Annotated[
        Path | None, typer.Option(help="Weights to begin with; random ones by the seed without.")
    ] = None,
) -> None:
    """Average networks that sites train on their own samples, weighted by how many they have."""
    with refusal():
        settings = load(config)
        rounds, steps = _plan(plan)
        wanted = Plan(rounds=rounds, steps=steps, prox=prox, local_norm=local_norm, seed=settings.seed)
        _begin(settings, weights, out)
        final = run(settings, sites, wanted, outline_steps, out)
    Console().print(f"[green]{final}; losses by round and site in {out / LOG}")


def _plan(words: str) -> tuple[int, int]:
    rounds, _, steps = words.partition("x")
    if not (rounds.isdecimal() and steps.isdecimal()):
        raise ValueError(f"{words!r} is no plan; give rounds x steps, such as 10x200")
    return int(rounds), int(steps)


def _begin(settings: Settings, weights: Path | None, out: Path) -> None:
    """Put the first weights into `out`, unless a federation has begun there.

    Raises:
        ValueError: one has begun there from weights other than `weights`, or they are of another network.
    """
    first = out / "start.pt"
    wanted = torch.load(weights, weights_only=True) if weights else None
    if first.is_file():
        if wanted is not None and not _equal(torch.load(first, weights_only=True), wanted):
            raise ValueError(
                f"{out} holds a federation that began from other weights than {weights}; give another --out"
            )
        return
    torch.manual_seed(settings.seed)
    net = MultitaskNet(settings.inputs, settings.network)
    if wanted is not None:
        try:
            net.load_state_dict(wanted)
        except RuntimeError as error:
            raise ValueError(f"{weights} are weights of another network than that of --config; give its own") from error
    out.mkdir(parents=True, exist_ok=True)
    torch.save(net.state_dict(), first)


def _equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())
