"""`export`, `predict` and `seal`: the steps between a trained run and a bundle."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from daemon.inference.bundle import load_bundle
from daemon.inference.session import Model
from training import bundling
from training.calibration.fit import NEUTRAL
from training.calibration.store import load as load_calibration
from training.commands.refusal import refusal
from training.curriculum.store import open_samples
from training.predictions import predict

Run = Annotated[Path, typer.Argument(help="A run's folder.", exists=True, file_okay=False)]
Samples = Annotated[Path, typer.Option(help="Folder of samples (*.npz).", exists=True, file_okay=False)]


def export_command(run: Run, samples: Samples) -> None:
    """Write a run's last stage as FP32 and INT8 graphs, of an ensemble each member's.

    Training samples show the range of activations.
    """
    with refusal():
        shown = open_samples(samples, run / "maps")
        for folder in bundling.members(run):
            settings = bundling.settings_in(folder)
            bundling.export_run(settings, bundling.trained(settings, folder), shown, folder)
            Console().print(f"[green]{folder / 'fp32'}, {folder / 'int8'}")


def predict_command(
    model: Annotated[Path, typer.Argument(help="A run's folder with graphs, or a bundle's.", exists=True)],
    samples: Samples,
    out: Annotated[Path, typer.Option(help="Gets one prediction a sample.")],
    precision: Annotated[str, typer.Option(help="Of a run: int8 or fp32.")] = "int8",
    calibrated: Annotated[bool, typer.Option("--calibrated", help="Of a run: scale voxels as calibrated.")] = False,
) -> None:
    """Read samples through the daemon's own inference, beside their truth."""
    with refusal():
        if precision not in ("int8", "fp32"):
            raise ValueError(f"no precision {precision!r}: use int8 or fp32")
        read = open_samples(samples, out.parent / ".maps")
        if (model / "SHA256SUMS").is_file():
            predict(Model(load_bundle(model)), read, out)
        else:
            exported = bundling.graphs(model)
            fitted = load_calibration(model / bundling.CALIBRATION).calibration if calibrated else NEUTRAL
            chosen = [member.shipped if precision == "int8" else member.fp32 for member in exported]
            bundling.predict_set(bundling.settings_in(model), chosen, read, out, fitted)
    Console().print(f"[green]{out}")


def seal_command(
    run: Run,
    samples: Annotated[Path, typer.Option(help="Folder with train/ and tune/ samples.", exists=True, file_okay=False)],
    measured: Annotated[
        list[str], typer.Option(help="WORDS=DIR: calibrated predictions, and what the card says of them.")
    ],
    models: Annotated[Path, typer.Option(help="Gets NAME/VERSION.")] = Path("models"),
) -> None:
    """Seal an exported and calibrated run: graphs, card, provenance, golden outputs, digests."""
    with refusal():
        used = {use: open_samples(samples / split, run / "maps") for use, split in _USES.items()}
        folder = bundling.seal_run(bundling.settings_in(run), run, used, _named(measured), models)
    Console().print((folder / "card.md").read_text(encoding="utf-8"), markup=False)
    Console().print(f"[green]sealed {folder}")


_USES = {"training": "train", "calibration": "tune"}


def _named(words: Sequence[str]) -> dict[str, Path]:
    pairs = [word.rpartition("=") for word in words]
    wrong = [word for word, (name, _, folder) in zip(words, pairs, strict=True) if not (name and folder)]
    if wrong:
        raise ValueError(f"{wrong[0]!r} is not WORDS=DIR")
    return {name: Path(folder) for name, _, folder in pairs}
