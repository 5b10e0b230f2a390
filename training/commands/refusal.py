"""How a command refuses bad input: one sentence and exit code 2."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.text import Text


@contextmanager
def refusal() -> Iterator[None]:
    """Turn what bad input raises into its sentence on standard error and exit code 2."""
    try:
        yield
    except (ValueError, OSError) as error:
        Console(stderr=True).print(Text(str(error), "red"), soft_wrap=True)
        raise typer.Exit(2) from error
