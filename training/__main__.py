"""`python -m training`: from patients to a sealed bundle, and on in the field."""

from collections.abc import Callable, Mapping

import typer

from training.commands import bundle, calibrate, compare, evaluate, explain, federate, harvest, learning, query, whole
from training.commands.prepare import prepare
from training.commands.shrink import benchmark, shrink
from training.commands.sign import sign
from training.commands.stats import stats
from training.commands.synth import synth

app = typer.Typer(help="Makes the model bundles that overread runs.", no_args_is_help=True)

PANELS: Mapping[str, Mapping[str, Callable[..., None]]] = {
    "The whole way": {"run": whole.run_command, "quickstart": whole.quickstart_command},
    "Data": {"prepare": prepare, "synth": synth, "stats": stats},
    "Learning": {
        "train": learning.train_command,
        "kfold": learning.kfold_command,
        "search": learning.search_command,
        "monitor": learning.monitor_command,
        "parts": learning.parts_command,
    },
    "Bundling": {
        "export": bundle.export_command,
        "predict": bundle.predict_command,
        "calibrate": calibrate.calibrate,
        "seal": bundle.seal_command,
        "sign": sign,
    },
    "Judging": {
        "evaluate": evaluate.command,
        "explain": explain.explain_command,
        "compare": compare.compare_command,
        "shrink": shrink,
        "benchmark": benchmark,
    },
    "In the field": {"harvest": harvest.harvest, "query": query.query, "federate": federate.federate},
}

for panel, commands in PANELS.items():
    for name, function in commands.items():
        app.command(name, rich_help_panel=panel)(function)

if __name__ == "__main__":
    app()
