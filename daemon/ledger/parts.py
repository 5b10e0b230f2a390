"""What is too much for one statement, in parts."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

# No statement names more values: SQLite and PostgreSQL both take about 32,000.
PARAMETERS = 1000

T = TypeVar("T")


def parts(values: Sequence[T], most: int = PARAMETERS) -> Iterator[Sequence[T]]:
    """Yield so many of them at a time."""
    return (values[start : start + most] for start in range(0, len(values), most))
