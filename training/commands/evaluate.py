"""`python -m training evaluate PREDICTIONS`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from training.commands.refusal import refusal
from training.evaluation.evaluate import evaluate
from training.evaluation.report import number
from training.evaluation.values import Metrics, Options


def command(
    predictions: Annotated[Path, typer.Argument(help="Folder of predictions with their truth (*.npz).")],
    calibration: Annotated[Path, typer.Option(help="Bundle folder, bundle.toml or a calibration's TOML.")],
    out: Annotated[Path, typer.Option(help="Gets metrics.json, pictures and report.html.")],
    tolerance: Annotated[
        float | None, typer.Option(help="Of surface scores, mm; default: coarsest voxel edge.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
) -> None:
    """Measure predictions against the truth and write a report for a clinician."""
    with refusal():
        written = evaluate(predictions, calibration, out, Options(tolerance_mm=tolerance, seed=seed))
    console = Console()
    console.print(_table(written.metrics))
    console.print(f"report: {written.report}", style="green", markup=False, soft_wrap=True)


def _table(metrics: Metrics) -> Table:
    table = Table("", *(f"{part.origin} ({part.data.studies})" for part in metrics.parts))
    rows = {
        "Dice, median": [part.segmentation.dice.median for part in metrics.parts],
        "ROC-AUC": [part.detection.roc_auc for part in metrics.parts],
        "sensitivity": [part.detection.recall for part in metrics.parts],
        "specificity": [part.detection.specificity for part in metrics.parts],
        "share of the oracle's C": [part.survival.share_of_oracle for part in metrics.parts],
        "ECE, studies": [part.uncertainty.study.ece for part in metrics.parts],
        "failure-AUROC, shipped score": [part.uncertainty.scores[0].failure_auroc for part in metrics.parts],
    }
    for label, measures in rows.items():
        table.add_row(label, *(number(measure) for measure in measures))
    return table
