"""`python -m training run CONFIG`: from settings to a sealed bundle."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from training.commands import calibrate, compare, evaluate, explain, federate, harvest, learning, query
from training.commands.prepare import prepare
from training.commands.shrink import benchmark, shrink
from training.commands.stats import stats
from training.commands.synth import synth
from training.run import run
from training.settings import load

app = typer.Typer(help="Makes the model bundles that overread runs.", no_args_is_help=True)


@app.callback()
def main() -> None:
    """Makes the model bundles that overread runs."""


@app.command("run")
def run_command(
    config: Annotated[Path, typer.Argument(help="Settings of the run, such as training/configs/brain-mri.toml.")],
    models: Annotated[Path, typer.Option(help="Where the sealed bundle goes.")] = Path("models"),
) -> None:
    """Make samples, train through all stages, export INT8, calibrate, measure and seal."""
    folder = run(load(config), models)
    console = Console()
    console.print((folder / "card.md").read_text(encoding="utf-8"))
    console.print(f"[green]sealed {folder}")


app.command("prepare")(prepare)
app.command("stats")(stats)
app.command("calibrate")(calibrate.calibrate)
app.command("harvest")(harvest.harvest)
app.command("query")(query.query)
app.command("federate")(federate.federate)

app.command("evaluate")(evaluate.command)
app.command("compare")(compare.compare_command)
app.command("explain")(explain.explain_command)
app.command("shrink")(shrink)
app.command("benchmark")(benchmark)
app.command("synth")(synth)
app.command("train")(learning.train_command)
app.command("kfold")(learning.kfold_command)
app.command("search")(learning.search_command)
app.command("monitor")(learning.monitor_command)
app.command("parts")(learning.parts_command)

if __name__ == "__main__":
    app()
