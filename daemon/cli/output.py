"""Answers as tables for people and as JSON for programs; options that many commands share."""

import dataclasses
import json
import os
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="overread.toml, or its folder; else $OVERREAD_CONFIG, else here.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

EXIT_ERROR = 1
EXIT_NOT_PROCESSED = 3
# Of a table that goes to a file or a pipe.
_WIDE = 240


def one_of(states: type[StrEnum], given: str | None) -> str | None:
    """Return a state as the ledger has it, however it was typed; None where none was given.

    Raises:
        typer.BadParameter: there is none of that name.
    """
    if given is None or given.upper() in set(states):
        return given and given.upper()
    raise typer.BadParameter(f"state {given!r}: {', '.join(states)}")


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
    from rich.table import Column, Table

    heads = [Column(name.replace("_", " "), overflow="fold") for name in columns]
    drawn = Table(*heads, title=title, title_justify="left")
    for row in rows:
        drawn.add_row(*[cell(getattr(row, column)) for column in columns])
    screen().print(drawn if rows else f"no {title}")


def screen() -> "Console":
    """Return what tables are drawn on: nothing in a text is markup, and nothing is cut where there is no terminal."""
    from rich.console import Console

    console = Console(markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDE
    return console


def cell(value: object) -> str:
    """Return `value` as a person reads it; a time in the machine's zone."""
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, tuple):
        return "\n".join(str(v) for v in value)
    return "" if value is None else str(value)
