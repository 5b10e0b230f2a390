"""`python -m training stats`: what is in a prepared folder."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from training.commands.refusal import refusal
from training.data.stats import ALL, Row
from training.data.stats import stats as measure

_COUNTS = ("patients", "samples", "outlined", "tumour/\nnone/?", "ratio", "ml", "events/\nfollowed", "median\ndays")
_IMAGES = ("spacing mm", "slices", "rows", "columns", "intensity p1 / p50 / p99 by channel")


def stats(
    folder: Annotated[Path, typer.Argument(help="What `prepare` or `synth` wrote: it holds samples/<split>/*.npz.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in place of the table.")] = False,
) -> None:
    """Print counts, tumour ratio, spacing, size, intensity and follow-up by split and source."""
    with refusal():
        rows = measure(folder)
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows], indent=1))
        return
    console = Console()
    console.print(_table("Patients and tumours", _COUNTS, [(row, _counts(row)) for row in rows]))
    console.print(_table("Images, in model voxels and units", _IMAGES, [(row, _images(row)) for row in rows]))


def _table(title: str, columns: Sequence[str], rows: Sequence[tuple[Row, Sequence[str]]]) -> Table:
    table = Table("split", "source", *columns, title=title, box=SIMPLE_HEAD)
    for row, cells in rows:
        whole = row.source == ALL
        table.add_row(row.split, row.source, *cells, style="bold" if whole else "", end_section=whole)
    return table


def _counts(row: Row) -> tuple[str, ...]:
    return (
        str(row.patients),
        str(row.samples),
        str(row.outlined),
        f"{row.tumours}/{row.normals}/{row.unknown}",
        _number(row.tumour_ratio),
        _number(row.tumour_ml),
        f"{row.events}/{row.followed}",
        _number(row.days),
    )


def _images(row: Row) -> tuple[str, ...]:
    return (
        "\n".join(" x ".join(f"{v:g}" for v in spacing) for spacing in row.spacing),
        *(_span(*found) for found in zip(row.size, row.size_min, row.size_max, strict=True)),
        "\n".join(" / ".join(f"{v:.2f}" for v in channel) for channel in row.intensity),
    )


def _span(median: float, low: int, high: int) -> str:
    return f"{median:g}" if low == high else f"{median:g} ({low}-{high})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
