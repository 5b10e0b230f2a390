"""What a run costs: from the file that `benchmark` writes."""

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class _Loose(BaseModel):
    # Of the file only what a trade-off needs; the rest is the benchmark's own.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Cost(_Loose):
    """Parameters, size in MB (10^6 bytes) and milliseconds a slice; None where nobody measured."""

    parameters: int | None = None
    megabytes: float | None = None
    milliseconds: float | None = None


class _Speed(_Loose):
    ms: float


class _Row(_Loose):
    name: str
    parameters: int | None = None
    size: int | None = Field(default=None, description="bytes")
    speed: dict[int, _Speed] = {}

    @property
    def cost(self) -> Cost:
        """Return the row's cost, its latency with the fewest threads."""
        milliseconds = self.speed[min(self.speed)].ms if self.speed else None
        return Cost(
            parameters=self.parameters,
            megabytes=None if self.size is None else self.size / 1e6,
            milliseconds=milliseconds,
        )


class _Document(_Loose):
    rows: list[_Row]


def read(path: Path, runs: Mapping[str, object]) -> dict[str, Cost]:
    """Return the costs of those of `runs` that a `shrink.json` names.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not one, or names none of the runs.
    """
    try:
        document = _Document.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (ValidationError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} has no list `rows` of name, size in bytes and speed: {error}") from error
    found = {row.name: row.cost for row in document.rows if row.name in runs}
    if not found:
        names = ", ".join(row.name for row in document.rows)
        raise ValueError(f"{path} knows {names}, but the runs are {', '.join(runs)}; name the runs as the file does")
    return found
