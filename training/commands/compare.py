"""`python -m training compare`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from training.commands.refusal import refusal
from training.compare import design as designs
from training.compare.compare import Request, compare
from training.compare.plots import p_words
from training.explain.cases import Point

console = Console()


def compare_command(
    out: Annotated[Path, typer.Option(help="Gets compare.json, compare.html and pictures.")],
    runs: Annotated[list[str] | None, typer.Argument(help="NAME=DIR, a folder of predictions a run.")] = None,
    bundle: Annotated[list[str] | None, typer.Option(help="NAME=DIR, the bundle whose thresholds a run uses.")] = None,
    against: Annotated[str | None, typer.Option(help="Test all others against this run, not all pairs.")] = None,
    costs: Annotated[Path | None, typer.Option(help="A shrink.json whose rows are called as the runs are.")] = None,
    design: Annotated[Path | None, typer.Option(help="A design file: multitask against single-task models.")] = None,
    common: Annotated[bool, typer.Option("--common", help="Keep only the studies that all runs have.")] = False,
    seed: Annotated[int, typer.Option(help="Draws the resamples.")] = 1,
) -> None:
    """Compare runs or stages on the same studies: paired tests, effects, curves, trade-offs."""
    with refusal():
        plan = None if design is None else designs.load(design)
        request = Request(
            folders=_pairs(runs or ()) if plan is None else plan.folders,
            out=out,
            points={name: Point.of_bundle(folder) for name, folder in _pairs(bundle or ()).items()},
            against=against,
            costs=costs,
            design=plan,
            common=common,
            seed=seed,
        )
        document = compare(request)
    table = Table("metric", "first", "second", "difference (95 %)", "p, Holm", "ahead", title=document["data"])
    for test in document["tests"]:
        p = float("nan") if test["p_holm"] is None else test["p_holm"]
        numbers = f"{test['difference']:+.3f} ({test['low']:+.3f} to {test['high']:+.3f})"
        table.add_row(test["metric"], test["first"], test["second"], numbers, p_words(p), test["ahead"] or "none shown")
    console.print(table)
    for verdict in document["verdicts"]:
        console.print(verdict)
    console.print(f"[green]{out / 'compare.html'}")


def _pairs(words: Sequence[str]) -> dict[str, Path]:
    """Return folders by name.

    Raises:
        ValueError: a word is not NAME=DIR, or a name stands twice.
    """
    found: dict[str, Path] = {}
    for word in words:
        name, equals, folder = word.partition("=")
        if not (name and equals and folder):
            raise ValueError(f"{word!r} is not NAME=DIR")
        if name in found:
            raise ValueError(f"the name {name} stands twice; give every run its own")
        found[name] = Path(folder)
    return found
