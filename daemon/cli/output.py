"""Answers as tables for people and as JSON for programs; options that many commands share."""

import dataclasses
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="overread.toml, or its folder; else $OVERREAD_CONFIG, else here.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

EXIT_ERROR = 1
EXIT_NOT_PROCESSED = 3


def emit(value: object) -> None:
    """Print `value` as JSON."""
    typer.echo(json.dumps(plain(value), indent=2))


def plain(value: object) -> Any:  # noqa: ANN401 - JSON has no narrower type
    """Return `value` as JSON types."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Path) else value


def table(title: str, rows: Sequence[object], columns: Sequence[str], *, as_json: bool) -> None:
    """Print dataclass instances as a table of `columns`, or all of them as JSON."""
    if as_json:
        emit(list(rows))
        return
    from rich.console import Console
    from rich.table import Table

    drawn = Table(*[c.replace("_", " ") for c in columns], title=title, title_justify="left")
    for row in rows:
        drawn.add_row(*[cell(getattr(row, column)) for column in columns])
    Console().print(drawn if rows else f"no {title}")


def cell(value: object) -> str:
    """Return `value` as a person reads it; a time in the machine's zone."""
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, tuple):
        return "\n".join(str(v) for v in value)
    return "" if value is None else str(value)
