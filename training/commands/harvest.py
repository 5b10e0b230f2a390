"""`harvest`: corrected outlines from the PACS become samples."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from training.commands.refusal import refusal
from training.field.harvest import Wanted
from training.field.harvest import harvest as gather
from training.seal import manifest
from training.settings import load


def harvest(
    folder: Annotated[Path, typer.Argument(help="Corrected SEGs with their source series, as the PACS exports them.")],
    config: Annotated[Path, typer.Option(help="Settings whose recipe and target the samples are for.")],
    salt_file: Annotated[Path, typer.Option(help="Secret that hides patient identifiers; the same file every time.")],
    out: Annotated[Path, typer.Option(help="Folder for the samples and harvest.json.")] = Path("harvest"),
) -> None:
    """Turn corrected SEGs into samples; name what was refused, and how far our outlines were off."""
    with refusal():
        settings = load(config)
        wanted = Wanted(manifest=manifest(settings), salt=salt_file.read_bytes().strip())
        found = gather(folder, wanted, out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "harvest.json").write_text(json.dumps(asdict(found), indent=1), encoding="utf-8")
    table = Table("sample", "tumour ml", "Dice of ours", title=f"{len(found.samples)} samples in {out}")
    for item in found.samples:
        table.add_row(item.name, f"{item.ml:.1f}", "-" if item.dice is None else f"{item.dice:.3f}")
    Console().print(table)
    if found.superseded:
        Console().print(f"{found.superseded} older corrections were left for newer ones")
    for uid, reason in found.refused.items():
        Console().print(f"[yellow]refused SEG {uid}: {reason}", soft_wrap=True)
