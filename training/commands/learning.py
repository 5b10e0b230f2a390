"""`train`, `kfold`, `search`, `monitor` and `parts`."""

from pathlib import Path
from typing import Annotated

import typer
from lightning_fabric import Fabric
from rich.console import Console
from rich.table import Table

from training.commands.refusal import refusal
from training.curriculum import folds, monitor
from training.curriculum.search import search
from training.curriculum.stages import make_fabric, train
from training.curriculum.store import Cohort, open_cohort
from training.network import MultitaskNet
from training.settings import Settings, load

Config = Annotated[Path, typer.Argument(help="Settings, such as training/configs/brain-mri.toml.")]
SamplesFolder = Annotated[Path, typer.Option("--samples", help="Folder with train/ and tune/ of prepared samples.")]
RunFolder = Annotated[Path, typer.Option("--out", help="The run's folder; a run that was stopped goes on.")]
Start = Annotated[
    Path | None, typer.Option(help="An earlier run of the same network, from whose warm-up this one goes on.")
]
Processes = Annotated[int, typer.Option(min=1, help="GPUs or CPU processes; of several machines, use torchrun.")]


def train_command(
    config: Config,
    samples: SamplesFolder,
    out: RunFolder,
    members: Annotated[int, typer.Option(min=1, help="Train an ensemble of this many seeds.")] = 1,
    processes: Processes = 1,
    start: Start = None,
) -> None:
    """Train through all stages: warm-up, heads, joint, settle."""
    with refusal():
        settings = load(config, start)
        fabric, cohort = _launch(settings, samples, out, processes)
        if members == 1:
            train(settings, cohort, out, fabric)
            return
        summary = folds.ensemble(settings, cohort, out, members, fabric)
        if fabric.is_global_zero:
            _show(summary, "member")


def kfold_command(
    config: Config,
    samples: SamplesFolder,
    out: RunFolder,
    count: Annotated[int, typer.Option("--folds", min=2, help="How many folds.")] = 5,
    processes: Processes = 1,
) -> None:
    """Cross-validate by patient over train/ and tune/ together; test/ is never touched."""
    with refusal():
        settings = load(config)
        fabric, cohort = _launch(settings, samples, out, processes)
        summary = folds.cross_validate(settings, [*cohort.train, *cohort.tune], out, count, fabric)
        if fabric.is_global_zero:
            _show(summary, "fold")


def search_command(config: Config, samples: SamplesFolder, out: RunFolder) -> None:
    """Search the settings that the table `search.space` names; print the best as lines for the settings file."""
    with refusal():
        study = search(load(config), open_cohort(samples, out / "maps"), out)
        table = Table("setting", "best", title=f"score {study.best_value:.4f} over {len(study.trials)} trials")
        for path, value in study.best_params.items():
            table.add_row(path, str(value))
        Console().print(table)


def monitor_command(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    once: Annotated[bool, typer.Option("--once", help="Draw once instead of until the run ends.")] = False,  # a flag
) -> None:
    """Watch a run: progress and time left, losses, last reading of the tuning set."""
    with refusal():
        monitor.watch(run, Console(), once=once)


def parts_command(config: Config) -> None:
    """Count the network's parameters by part."""
    with refusal():
        settings = load(config)
    counts = MultitaskNet(settings.inputs, settings.network).parts()
    table = Table("part", "parameters", "share", "task")
    total = sum(count.parameters for count in counts)
    for count in counts:
        share = f"{count.parameters / total:.1%}"
        table.add_row(count.part, f"{count.parameters:,}", share, "on" if count.used else "off")
    table.add_section()
    table.add_row("all", f"{total:,}", "", "")
    Console().print(table)


def _launch(settings: Settings, samples: Path, out: Path, processes: int) -> tuple[Fabric, Cohort]:
    """Start the processes; the first unpacks the samples, the others wait for it."""
    fabric = make_fabric(settings, processes)
    fabric.launch()
    with fabric.rank_zero_first():
        return fabric, open_cohort(samples, out / "maps")


def _show(summary: folds.Summary, kind: str) -> None:
    table = Table(kind, "Dice", "AUC", "C-index")
    for i, one in enumerate(summary.each):
        table.add_row(str(i + 1), f"{one.dice:.3f}", f"{one.auc:.3f}", f"{one.c_index:.3f}")
    table.add_section()
    spread = [summary.spread(name) for name in ("dice", "auc", "c_index")]
    table.add_row("mean ± SD", *(f"{mean:.3f} ± {sd:.3f}" for mean, sd in spread))
    if summary.together is not None:
        table.add_row("together", "", f"{summary.together.auc:.3f}", f"{summary.together.c_index:.3f}")
    Console().print(table)
