"""`python -m training shrink` and `benchmark`."""

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from training.commands.refusal import refusal
from training.data.sample import Sample
from training.settings import load
from training.shrink import structure
from training.shrink.benchmark import Load, table
from training.shrink.benchmark import benchmark as measure
from training.shrink.distil import Tuning
from training.shrink.pipeline import Data, Plan, checkpoint
from training.shrink.pipeline import shrink as make

Config = Annotated[Path, typer.Option(help="Settings that the network was trained with.", exists=True, dir_okay=False)]


def shrink(  # a command's options are its parameters
    run: Annotated[Path, typer.Argument(help="A training run's folder, or a checkpoint.", exists=True)],
    config: Config,
    samples: Annotated[Path, typer.Option(help="Folder with train/ and tune/ samples.", exists=True, file_okay=False)],
    out: Annotated[Path, typer.Option(help="Where the variants go.")],
    ratio: Annotated[float, typer.Option(help="Share of parameters to remove.")] = 0.5,
    steps: Annotated[int, typer.Option(help="Steps of fine-tuning with the unpruned teacher.", min=0)] = 1500,
    head_epochs: Annotated[int, typer.Option(help="Epochs of the heads on whole studies.", min=0)] = 30,
    study: Annotated[bool, typer.Option("--study", help="Prune by magnitude as well, to compare.")] = False,
) -> None:
    """Prune, fine-tune by distillation, export FP32 and INT8; a stopped run goes on where it was."""
    with refusal():
        settings = load(config)
        torch.set_num_threads(settings.threads)
        teacher = structure.read(checkpoint(run), settings.inputs, settings.network)
        data = Data(train=_samples(samples / "train"), tune=_samples(samples / "tune"))
        tuning = Tuning(steps=steps, head_epochs=head_epochs, learning_rate=settings.stages.learning_rate)
        plan = Plan(ratio=ratio, tuning=tuning, study=study)
        make(settings, teacher, data, plan, out)
    Console().print(f"[green]variants in {out}[/]; `benchmark {out}` measures them")


def benchmark(  # the same
    folder: Annotated[Path, typer.Argument(help="What `shrink` wrote.", exists=True, file_okay=False)],
    config: Config,
    samples: Annotated[Path | None, typer.Option(help="Samples to judge accuracy by, none of them trained on.")] = None,
    rounds: Annotated[int, typer.Option(help="Rounds over all variants.", min=2)] = 30,
    size: Annotated[int, typer.Option(help="Rows and columns of the timed slices.", min=16)] = 240,
    passes: Annotated[int | None, typer.Option(help="MC-dropout passes; the settings' own by default.", min=1)] = None,
) -> None:
    """Measure size, latency and accuracy of FP32, pruned, INT8 and both; write shrink.json and shrink.png."""
    with refusal():
        load_ = Load(rounds=rounds, plane=(size, size), passes=passes)
        rows = measure(load(config), folder, _samples(samples) if samples else [], load_)
    Console().print(table(rows))
    Console().print(f"[green]{folder / 'shrink.json'}, {folder / 'shrink.png'}")


def _samples(folder: Path) -> list[Sample]:
    found = sorted(folder.glob("*.npz"))
    if not found:
        raise FileNotFoundError(f"no samples in {folder}; make them with `prepare` or `synth` first")
    return [Sample.load(path) for path in found]
