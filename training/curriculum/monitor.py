"""Watches a run: its log as a live dashboard."""

import time
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from training.curriculum.log import LOG, TASKS, Row, read
from training.curriculum.stages import ADAPT, HEADS, JOINT, SETTLE, STAGES, WARMUP
from training.settings import RealUse, Settings, load

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 40


def watch(run: Path, console: Console, *, every: float = 2.0, once: bool = False) -> None:
    """Draw the dashboard of a run folder until it is finished, or once.

    Raises:
        FileNotFoundError: the folder holds no run.
    """
    plan = planned(load_settings(run))
    if once:
        console.print(dashboard(run, read(run / LOG), plan))
        return
    with Live(console=console, refresh_per_second=4) as live:
        while True:
            rows = read(run / LOG)
            live.update(dashboard(run, rows, plan))
            if finished(run, plan):
                return
            time.sleep(every)


def load_settings(run: Path) -> Settings:
    """Return the settings of a run folder.

    Raises:
        FileNotFoundError: the folder holds no run.
    """
    path = run / "settings.toml"
    if not path.exists():
        raise FileNotFoundError(
            f"no run in {run} (settings.toml is missing); give the --out of a training, of an ensemble a member"
        )
    return load(path)


def planned(settings: Settings) -> dict[str, int]:
    """Return the steps of each stage that the run will go through; it adapts only where real patients may join."""
    stages = settings.stages
    heads, joins = settings.network.needs_map, settings.data.real_use is RealUse.ADAPT
    steps = {
        WARMUP: stages.warmup_steps,
        ADAPT: stages.adapt_steps if joins else 0,
        HEADS: stages.head_epochs if heads else 0,
        JOINT: stages.joint_steps,
        SETTLE: stages.settle_epochs if heads else 0,
    }
    return {name: steps[name] for name in STAGES if steps[name]}


def finished(run: Path, plan: dict[str, int]) -> bool:
    """Return whether the last stage is done."""
    return all((run / "stages" / f"{name}.pt").exists() for name in list(plan)[-1:])


def dashboard(run: Path, rows: Sequence[Row], plan: dict[str, int]) -> RenderableType:
    """Return the dashboard of a log: progress and time left by stage, losses, last validation."""
    return Group(
        Panel(_stages(run, rows, plan), title=run.name),
        Columns([Panel(_losses(rows), title="losses"), Panel(_validation(rows), title="tuning set")]),
    )


def _stages(run: Path, rows: Sequence[Row], plan: dict[str, int]) -> Table:
    table = Table("stage", "progress", "step", "seconds", "left", "samples/s", "rate", box=None)
    latest = max((list(plan).index(row.stage) for row in rows if row.stage in plan), default=0)
    for place, (name, steps) in enumerate(plan.items()):
        mine = [row for row in rows if row.stage == name]
        done = (run / "stages" / f"{name}.pt").exists()
        if place < latest and not (mine or done):  # passed over: there was nobody to adapt to
            continue
        step = mine[-1].step if mine else 0
        numbers = mine[-1].numbers if mine else {}
        seconds = numbers.get("seconds", 0.0)
        left = 0.0 if done else remaining(step, steps, seconds)
        speed = _last(mine, "samples_per_second")
        table.add_row(
            Text(name, style="green" if done else "bold" if mine else "dim"),
            ProgressBar(total=steps, completed=steps if done else step, width=WIDTH),
            f"{step}/{steps}",
            f"{seconds:.0f}",
            "" if left is None else clock(left),
            "" if speed is None else f"{speed:.1f}",
            "" if not mine else f"{_last(mine, 'learning_rate') or 0:.1e}",
        )
    return table


def remaining(step: int, steps: int, seconds: float) -> float | None:
    """Return the seconds left at the pace so far; None before the first step."""
    return seconds / step * (steps - step) if step else None


def clock(seconds: float) -> str:
    """Return h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def _losses(rows: Sequence[Row]) -> Table:
    table = Table("loss", "over the stage", "now", box=None)
    stage = [row.numbers for row in rows if rows and row.stage == rows[-1].stage]
    for name in ("loss", *TASKS):
        values = [numbers[name] for numbers in stage if name in numbers]
        if values:
            table.add_row(name, sparkline(values), f"{values[-1]:.4f}")
    return table


def sparkline(values: Sequence[float], width: int = WIDTH) -> str:
    """Return values as bars from lowest to highest; more values than `width` are averaged."""
    count = min(len(values), width)
    edges = [round(i * len(values) / count) for i in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    span = high - low or 1.0
    return "".join(BARS[min(int((value - low) / span * len(BARS)), len(BARS) - 1)] for value in means)


def _validation(rows: Sequence[Row]) -> Table:
    table = Table("", "last", "best", "at", box=None)
    for name in ("dice", "auc", "c_index"):
        read_at = [(row.numbers[f"tuning_{name}"], row) for row in rows if f"tuning_{name}" in row.numbers]
        if read_at:
            best, row = max(read_at, key=lambda pair: pair[0])
            table.add_row(name, f"{read_at[-1][0]:.3f}", f"{best:.3f}", f"{row.stage} {row.step}")
    return table


def _last(rows: Iterable[Row], name: str) -> float | None:
    values = [row.numbers[name] for row in rows if name in row.numbers]
    return values[-1] if values else None
