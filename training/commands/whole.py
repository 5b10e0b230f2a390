"""`run` and `quickstart`: all steps in one."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from training.commands.learning import Start
from training.commands.refusal import refusal
from training.quickstart import quickstart, settings
from training.settings import load
from training.steps import run


def run_command(
    config: Annotated[Path, typer.Argument(help="Settings of the run, such as training/configs/brain-mri.toml.")],
    models: Annotated[Path, typer.Option(help="Where the sealed bundle goes.")] = Path("models"),
    start: Start = None,
) -> None:
    """Make samples, train through all stages, export INT8, calibrate, measure and seal."""
    with refusal():
        chosen = load(config, start)
        _show(run(chosen, chosen.build, models))


def quickstart_command(
    out: Annotated[Path, typer.Option(help="Gets everything; a run that was stopped goes on.")],
) -> None:
    """Go through every step on a tiny setting: synth, train, calibrate, seal, evaluate, explain, compare, shrink."""
    with refusal():
        _show(quickstart(settings(), out, Console()))


def _show(folder: Path) -> None:
    Console().print((folder / "card.md").read_text(encoding="utf-8"), markup=False)
    Console().print(f"[green]sealed {folder}")
