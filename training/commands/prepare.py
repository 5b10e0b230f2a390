"""`python -m training prepare`: any layout to cached samples in splits."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from training.commands.refusal import refusal
from training.data.prepare import FAILURES, Report
from training.data.prepare import prepare as cache
from training.data.readers import LAYOUTS, Request, find
from training.data.splits import Splits, arrange, check_shares
from training.seal import manifest
from training.settings import load

_LISTED = 20


def prepare(
    layout: Annotated[str, typer.Argument(help=f"One of {', '.join(LAYOUTS)}.")],
    folder: Annotated[Path, typer.Argument(help="The folder with the patients, as it was published.")],
    config: Annotated[Path, typer.Option(help="Settings of the model to train: its recipe prepares the images.")],
    out: Annotated[Path, typer.Option(help="Gets samples/<split>/*.npz and splits.json; data can be added later.")],
    contrast: Annotated[list[str] | None, typer.Option(help="BraTS: FLAIR, T2, T1C or T1; once for each.")] = None,
    label: Annotated[
        list[int] | None, typer.Option(help="Mask values that are tumour; all above 0 if not given.")
    ] = None,
    region: Annotated[str, typer.Option(help="DICOM: regular expression for the ROI or segment names of tumour.")] = "",
    patient: Annotated[str, typer.Option(help="Pairs: regular expression whose group is the patient in a name.")] = "",
    source: Annotated[str, typer.Option(help="Name of the data in samples and tables.")] = "",
    follow_up: Annotated[
        Path | None, typer.Option(help="CSV with patient, time_days, event, clinical numbers.")
    ] = None,
    field_mm: Annotated[float, typer.Option(help="Kaggle: the longer side of a picture in mm.")] = 240.0,
    tune: Annotated[float, typer.Option(help="Share of patients to tune and calibrate with.")] = 0.15,
    test: Annotated[float, typer.Option(help="Share of patients to test on.")] = 0.15,
    seed: Annotated[int | None, typer.Option(help="Deals the patients; the settings' seed if not given.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that read at once.")] = 1,
) -> None:
    """Cache a folder of patients as samples in splits.

    Can be stopped and repeated with the same options: what is cached is kept. Exit code 1: some could not be read.
    """
    with refusal():
        settings = load(config)
        request = Request(
            manifest=manifest(settings),
            source=source,
            contrasts=tuple(contrast or ("FLAIR",)),
            labels=tuple(label or ()),
            region=region,
            patient=patient,
            follow_up=follow_up,
            field_mm=field_mm,
        )
        shares = {"train": 1 - tune - test, "tune": tune, "test": test}
        check_shares(shares)
        report = cache(find(layout, folder, request), request, out, workers)
        splits = arrange(out, shares, settings.seed if seed is None else seed)
    _print(report, splits, out)
    raise typer.Exit(int(bool(report.failures)))


def _print(report: Report, splits: Splits, out: Path) -> None:
    console = Console()
    counts = ", ".join(f"{split} {len(patients)}" for split, patients in splits.patients.items())
    console.print(f"{report.made} samples made, {report.kept} kept in {out}; patients: {counts}", soft_wrap=True)
    if report.failures:
        table = Table("study", "patient", "cause", title=f"{len(report.failures)} could not be read")
        for failure in report.failures[:_LISTED]:
            table.add_row(failure.name, failure.patient, failure.cause)
        console.print(table)
        console.print(f"all of them: {out / FAILURES}; mend the files and repeat the command", soft_wrap=True)
