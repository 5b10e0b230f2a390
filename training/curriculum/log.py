"""A run's log: one CSV of every stage, and TensorBoard."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

TASKS = ("seg", "cells", "tumour", "survival")
COLUMNS = (
    "stage", "step", "steps", "loss", *TASKS, "learning_rate", "seconds", "samples_per_second",
    "tuning_dice", "tuning_auc", "tuning_c_index", "tuning_score",
)  # fmt: skip
LOG = "log.csv"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the log; a number that was not measured is absent."""

    stage: str
    step: int
    steps: int
    numbers: Mapping[str, float] = field(default_factory=dict)


class Log:
    """Appends to `folder`/log.csv and `folder`/tensorboard."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOG
        folder.mkdir(parents=True, exist_ok=True)
        if not self._path.exists():
            self._keep([])
        self._board = SummaryWriter(str(folder / "tensorboard"))

    def rewind(self, stage: str, step: int) -> None:
        """Forget rows of `stage` after `step`, which a resumed run will write again."""
        rows = [r for r in read(self._path) if r.stage != stage or r.step <= step]
        self._keep(rows)

    def write(self, row: Row) -> None:
        """Append a row."""
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(_cells(row))
        for name, value in row.numbers.items():
            self._board.add_scalar(f"{row.stage}/{name}", value, row.step)

    def close(self) -> None:
        """Write what TensorBoard still holds."""
        self._board.close()

    def _keep(self, rows: list[Row]) -> None:
        partial = self._path.with_suffix(".part")
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(_cells(row) for row in rows)
        partial.rename(self._path)


def read(path: Path) -> list[Row]:
    """Return the rows of a log.

    Raises:
        FileNotFoundError: there is no log.
    """
    if not path.exists():
        raise FileNotFoundError(f"no log at {path}; give the folder of a run that has begun")
    with path.open(newline="", encoding="utf-8") as file:
        return [_row(cells) for cells in csv.DictReader(file) if None not in cells.values()]


def _cells(row: Row) -> list[str]:
    known = {"stage": row.stage, "step": str(row.step), "steps": str(row.steps)}
    known |= {name: f"{value:.6g}" for name, value in row.numbers.items()}
    return [known.get(name, "") for name in COLUMNS]


def _row(cells: Mapping[str, str]) -> Row:
    numbers = {name: float(text) for name, text in cells.items() if text and name not in {"stage", "step", "steps"}}
    return Row(stage=cells["stage"], step=int(cells["step"]), steps=int(cells["steps"]), numbers=numbers)
