"""destinations, and send: the DICOM nodes that results go to."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from daemon.cli.audit import note_destination, sending
from daemon.cli.ledger import house
from daemon.cli.output import EXIT_ERROR, ConfigOption, JsonOption, table

app = typer.Typer(help="DICOM nodes that results go to.", no_args_is_help=True)


@dataclass(frozen=True, kw_only=True)
class _Row:
    name: str
    ae_title: str
    host: str
    port: int
    commitment: bool
    from_file: bool


@dataclass(frozen=True, kw_only=True)
class _EchoRow:
    name: str
    ok: bool
    seconds: float
    detail: str


@dataclass(frozen=True, kw_only=True)
class _SentRow:
    sop_instance_uid: str
    outcome: str
    status: str
    detail: str


@app.command("list")
def list_destinations(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List destinations."""
    here = house(config)
    named = {d.name for d in here.settings.destination}
    rows = [_Row(**asdict(d), from_file=d.name in named) for d in here.destinations().values()]
    table("destinations", rows, ("name", "ae_title", "host", "port", "commitment", "from_file"), as_json=as_json)


@app.command()
def add(
    name: str,
    address: Annotated[str, typer.Argument(help="AET@HOST:PORT")],
    config: ConfigOption = None,
    commitment: Annotated[bool, typer.Option(help="Ask it for Storage Commitment.")] = True,
) -> None:
    """Add or replace a destination; results made from now on go there too."""
    from daemon.cli.run import parse_destination

    here = house(config)
    if name in {d.name for d in here.settings.destination}:
        typer.secho(f"overread: {name} stands in the configuration file; change it there", err=True)
        raise typer.Exit(EXIT_ERROR)
    section = parse_destination(f"{name}={address}").model_copy(update={"commitment": commitment})
    here.deliveries.add_destination(section.destination)
    note_destination(here, "destinations add", name, f"results go to {address} from now on")
    typer.echo(f"added {name}")


@app.command()
def remove(name: str, config: ConfigOption = None) -> None:
    """Remove a destination that was added by command."""
    here = house(config)
    if not here.deliveries.remove_destination(name):
        typer.secho(f"overread: no destination {name} was added by command", err=True)
        raise typer.Exit(EXIT_ERROR)
    note_destination(here, "destinations remove", name, "results go there no more")
    typer.echo(f"removed {name}")


@app.command()
def echo(
    name: Annotated[str | None, typer.Argument(help="One destination; else all.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask destinations whether they are there (C-ECHO); exit 1 if one is not."""
    here = house(config)
    known = here.destinations()
    if name is not None and name not in known:
        raise typer.BadParameter(f"no destination {name}; see `overread destinations list`")
    answers = {n: here.courier().echo(d) for n, d in known.items() if name in (None, n)}
    rows = [_EchoRow(name=n, ok=a.ok, seconds=round(a.seconds, 3), detail=a.detail) for n, a in answers.items()]
    table("destinations", rows, ("name", "ok", "seconds", "detail"), as_json=as_json)
    if not all(row.ok for row in rows):
        raise typer.Exit(EXIT_ERROR)


def send(
    path: Annotated[Path, typer.Argument(help="A DICOM file, or a folder of them.", exists=True)],
    to: Annotated[str, typer.Option(help="Name of the destination.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send DICOM files to a destination now; exit 1 if one is not stored."""
    here = house(config)
    known = here.destinations()
    if to not in known:
        raise typer.BadParameter(f"no destination {to}; see `overread destinations list`")
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    rows = [
        _SentRow(
            sop_instance_uid=r.sop_instance_uid,
            outcome=r.outcome.value,
            status="" if r.status is None else f"0x{r.status:04X}",
            detail=r.detail,
        )
        for r in sending(here, known[to], files)
    ]
    table("objects", rows, ("sop_instance_uid", "outcome", "status", "detail"), as_json=as_json)
    if any(row.outcome != "stored" for row in rows):
        raise typer.Exit(EXIT_ERROR)
