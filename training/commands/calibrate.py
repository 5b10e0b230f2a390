"""`calibrate`: fit what the bundle decides by."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from training.calibration.evidence import rows
from training.calibration.fit import fit
from training.calibration.store import save
from training.commands.refusal import refusal
from training.settings import load


def calibrate(
    predictions: Annotated[Path, typer.Argument(help="Predictions of the quantised model on the tuning studies.")],
    config: Annotated[Path, typer.Option(help="Settings of the run; their table calibration says what for.")],
    out: Annotated[Path, typer.Option(help="File to write; the novelty bank goes beside it.")] = Path(
        "calibration.toml"
    ),
) -> None:
    """Fit probabilities, thresholds, intervals, survival and novelty on predictions; say what is guaranteed."""
    with refusal():
        settings = load(config)
        fitted = fit(predictions, settings.calibration, settings.bundle.min_lesion_ml)
    save(fitted, out)
    table = Table("what", "value", "on", title=f"calibration of {settings.bundle.name} {settings.bundle.version}")
    for row in rows(fitted):
        table.add_row(*row)
    Console().print(table)
    Console().print(f"[green]wrote {out}")
