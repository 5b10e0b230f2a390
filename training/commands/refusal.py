"""How a command refuses bad input: one sentence and exit code 2."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from daemon.errors import OverreadError

REFUSED = (ValueError, OSError, FloatingPointError, OverreadError)


@contextmanager
def refusal() -> Iterator[None]:
    """Turn what bad input raises into its sentence on standard error and exit code 2."""
    try:
        yield
    except REFUSED as error:
        Console(stderr=True).print(Text(_sentence(error), "red"), soft_wrap=True)
        raise typer.Exit(2) from error


def _sentence(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    faults = ((".".join(str(part) for part in fault["loc"]), fault["msg"]) for fault in error.errors())
    return "\n".join(f"settings, {where or 'as a whole'}: {message}" for where, message in faults)
