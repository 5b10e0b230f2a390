"""`python -m training synth brain-mri|petct --patients N --seed S [--shift] [--stratum S] --out DIR`."""

import json
from dataclasses import asdict
from enum import StrEnum
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from training.commands.refusal import refusal
from training.data.cohort import COHORT_FILE, Cohort, Summary, summarise, write
from training.data.sample import Sample
from training.data.synthetic import FollowUp
from training.settings import Settings, load


class Kind(StrEnum):
    """Which studies to make."""

    BRAIN_MRI = "brain-mri"
    PETCT = "petct"


def synth(
    kind: Annotated[Kind, typer.Argument(help="Which studies to make.")],
    out: Annotated[Path, typer.Option(help="Gets one .npz a patient and cohort.json.")],
    patients: Annotated[int, typer.Option(help="How many; more later extends the same cohort.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="The same seed and options give the same patients.")] = 1,
    shift: Annotated[bool, typer.Option("--shift", help="Draw from the generator that training never sees.")] = False,
    stratum: Annotated[str, typer.Option(help="Make all hard: small, faint, 'near skull', look-alikes ...")] = "",
    contrast: Annotated[str, typer.Option(help="MR only: FLAIR, T2, T1C or T1 alone; empty mixes them.")] = "",
    config: Annotated[
        Path | None, typer.Option(help="Settings whose recipe and hazard hold; else the model's own.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 takes every core.")] = 0,
) -> None:
    """Make synthetic patients over real anatomy with follow-up from a known hazard; an interrupted run goes on."""
    with refusal():
        settings = _settings(kind, config)
        cohort = Cohort(
            kind=settings.data.kind,
            seed=seed,
            recipe=settings.recipe,
            shifted=shift,
            stratum=stratum,
            contrast=contrast,
            normal_fraction=settings.data.normal_fraction,
            follow=FollowUp(hazard_per_day=settings.data.hazard_per_day, censor_days=settings.data.censor_days),
        )
        paths = write(cohort, out, patients, workers=workers)
    summary = summarise([Sample.load(path) for path in paths])
    (out / COHORT_FILE).write_text(
        json.dumps({"cohort": cohort.facts(), "summary": asdict(summary)}, indent=1), encoding="utf-8"
    )
    _show(summary, out)


def _settings(kind: Kind, config: Path | None) -> Settings:
    if config is not None:
        settings = load(config)
    else:
        with as_file(files("training") / "configs" / f"{kind.value}.toml") as path:
            settings = load(path)
    wanted = "brain" if kind is Kind.BRAIN_MRI else "petct"
    if settings.data.kind != wanted:
        raise ValueError(f"{config} is of kind {settings.data.kind}, not {wanted}: give the settings of {kind.value}")
    return settings


def _show(summary: Summary, out: Path) -> None:
    table = Table(title=f"Synthetic patients in {out}", show_header=False)
    table.add_row("patients", str(summary.patients))
    table.add_row("with tumour, without", f"{summary.tumours}, {summary.normals}")
    table.add_row("deaths, median days", f"{summary.events}, {summary.median_days:.0f}")
    for word, counts in (("sources", summary.sources), ("strata", summary.strata or {"none": summary.patients})):
        table.add_row(word, ", ".join(f"{name} {count}" for name, count in counts.items()))
    table.add_row("oracle C-index", f"{summary.oracle_c_index:.3f}")
    Console().print(table)
