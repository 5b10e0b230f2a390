"""`query`: which studies to annotate next."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from training.calibration.scaling import Scale
from training.calibration.store import load
from training.commands.refusal import refusal
from training.field.query import query as rank
from training.field.query import save


def query(
    predictions: Annotated[Path, typer.Argument(help="Predictions of unlabelled studies.")],
    known: Annotated[Path | None, typer.Option(help="Predictions of studies that are annotated already.")] = None,
    calibration: Annotated[Path | None, typer.Option(help="calibration.toml, to judge probabilities by.")] = None,
    count: Annotated[int, typer.Option(min=1, help="How many to choose.")] = 20,
    out: Annotated[Path, typer.Option(help="Written as .csv and .json.")] = Path("query"),
) -> None:
    """Rank studies for annotation by the model's doubt and by how much they differ."""
    with refusal():
        numbers = load(calibration).calibration if calibration else None
        scale = Scale(slope=numbers.platt_slope, intercept=numbers.platt_intercept) if numbers else None
        chosen = rank(predictions, count, known, scale)
    save(chosen, out)
    table = Table("", "study", "doubt", "distance", "why", title="annotate in this order")
    for item in chosen:
        table.add_row(str(item.place), item.name, f"{item.doubt:.2f}", f"{item.distance:.2f}", item.reason)
    Console().print(table)
