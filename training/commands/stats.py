"""`python -m training stats`: what is in a prepared folder."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from training.commands.refusal import refusal
from training.data.stats import ALL, Row
from training.data.stats import stats as measure

_COLUMNS = (
    "split",
    "source",
    "patients",
    "samples",
    "outlined",
    "tumour / none / ?",
    "tumour ratio",
    "tumour ml",
    "spacing mm",
    "size",
    "intensity p1 / p50 / p99",
    "events / followed",
    "median days",
)


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
    Console().print(_table(rows))


def _table(rows: Sequence[Row]) -> Table:
    table = Table(*_COLUMNS)
    for row in rows:
        spacing = "; ".join(" x ".join(f"{v:g}" for v in found) for found in row.spacing)
        size = " x ".join(_span(*found) for found in zip(row.size, row.size_min, row.size_max, strict=True))
        table.add_row(
            row.split,
            row.source,
            str(row.patients),
            str(row.samples),
            str(row.outlined),
            f"{row.tumours} / {row.normals} / {row.unknown}",
            _number(row.tumour_ratio),
            _number(row.tumour_ml),
            spacing,
            size,
            "\n".join(" / ".join(f"{v:.2f}" for v in channel) for channel in row.intensity),
            f"{row.events} / {row.followed}",
            _number(row.days),
            style="bold" if row.source == ALL else "",
            end_section=row.source == ALL,
        )
    return table


def _span(median: float, low: int, high: int) -> str:
    return f"{median:g}" if low == high else f"{median:g} ({low}-{high})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
