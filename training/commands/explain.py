"""`python -m training explain`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from training.commands.refusal import refusal
from training.explain.cases import Point
from training.explain.explain import Request, explain

console = Console()


def explain_command(
    target: Annotated[Path, typer.Argument(help="A folder of predictions, or a run that has one.")],
    samples: Annotated[Path, typer.Option(help="The samples that were predicted.")],
    out: Annotated[Path, typer.Option(help="Gets pictures, explain.json and explain.html.")],
    checkpoint: Annotated[Path | None, typer.Option(help="A stage's weights, for Grad-CAM.")] = None,
    config: Annotated[Path | None, typer.Option(help="The settings that the stage was trained with.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="A sealed bundle whose thresholds decide.")] = None,
    each: Annotated[int, typer.Option(min=1, help="Cases shown of each kind.")] = 4,
    most: Annotated[int, typer.Option(min=1, help="Tumour slices that maps are measured on.")] = 24,
    seed: Annotated[int, typer.Option(help="Draws the cases.")] = 1,
) -> None:
    """Show right and wrong cases, uncertainty and what the model looks at, and measure the maps."""
    if (checkpoint is None) != (config is None):
        raise typer.BadParameter("--checkpoint and --config belong together; give both or neither")
    with refusal():
        request = Request(
            predictions=predictions_of(target),
            samples=samples,
            out=out,
            point=Point() if bundle is None else Point.of_bundle(bundle),
            network=None if checkpoint is None or config is None else (checkpoint, config),
            each=each,
            most=most,
            seed=seed,
        )
        document = explain(request)
    table = Table("map", "pointing game", "energy", title=f"How well each map explains ({document['data']})")
    for kind, found in document["maps"].items():
        table.add_row(kind, f"{found['pointing']:.2f}", f"{found['energy']:.2f}")
    console.print(table)
    console.print(f"[green]{out / 'explain.html'}")


def predictions_of(target: Path) -> Path:
    """Return the folder of predictions that `target` is or, as a run, has.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a run has several.
    """
    if any(target.glob("*.npz")):
        return target
    found = sorted(folder for folder in (target / "predictions").glob("*") if any(folder.glob("*.npz")))
    if not found:
        raise FileNotFoundError(f"no predictions in {target}; predict a set of samples first")
    if len(found) > 1:
        names = ", ".join(str(folder) for folder in found)
        raise ValueError(f"{target} has several sets of predictions; give one of them: {names}")
    return found[0]
