"""destinations, and send: the DICOM nodes and DICOMweb services that results go to."""

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from daemon.cli.audit import note_destination, sending
from daemon.cli.ledger import house
from daemon.cli.output import EXIT_ERROR, ConfigOption, JsonOption, table

if TYPE_CHECKING:
    from daemon.bootstrap import House
    from daemon.domain.delivery import Circuit, Destination

app = typer.Typer(help="DICOM nodes and DICOMweb services that results go to.", no_args_is_help=True)


@dataclass(frozen=True, kw_only=True)
class _Row:
    name: str
    ae_title: str
    host: str
    port: int
    commitment: bool
    tls: bool
    url: str
    token_file: str
    password_file: str
    ca_file: str
    outputs: str
    fallback: str
    from_file: bool
    state: str
    failures: int
    since: datetime | None
    next_at: datetime | None
    reason: str

    @property
    def address(self) -> str:
        return self.url or f"{self.ae_title}@{self.host}:{self.port}"


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
    """List destinations: reached, failing, or open (only probed), since when and why."""
    here = house(config)
    named = {d.name for d in here.settings.destination}
    circuits = here.circuits.all()
    rows = [_row(d, circuits.get(d.name), d.name in named) for d in here.destinations().values()]
    columns = (
        "name",
        "address",
        "commitment",
        "tls",
        "outputs",
        "fallback",
        "from_file",
        "state",
        "since",
        "next_at",
        "reason",
    )
    table("destinations", rows, columns, as_json=as_json)


def _row(destination: "Destination", circuit: "Circuit | None", from_file: bool) -> _Row:  # noqa: FBT001 - a column
    from daemon.domain.delivery import reached

    kinds = {name: ", ".join(map(str, getattr(destination, name))) for name in ("outputs", "fallback")}
    return _Row(
        **{**vars(destination), **kinds, "tls": destination.tls is not None},
        from_file=from_file,
        state=reached(circuit),
        failures=circuit.failures if circuit else 0,
        since=circuit.since if circuit else None,
        next_at=circuit.next_at if circuit else None,
        reason=circuit.reason if circuit else "",
    )


@app.command()
def add(
    name: str,
    address: Annotated[str, typer.Argument(help="AET@HOST:PORT, or the URL of a DICOMweb service.")],
    config: ConfigOption = None,
    commitment: Annotated[bool, typer.Option(help="Ask it for Storage Commitment.")] = True,
    tls: Annotated[bool, typer.Option("--tls", help="Call the node by TLS, with the files of [tls].")] = False,
    token_file: Annotated[Path | None, typer.Option(help="File with the service's bearer token.")] = None,
    password_file: Annotated[Path | None, typer.Option(help="File with one line user:password.")] = None,
    ca_file: Annotated[Path | None, typer.Option(help="File with the certificates to trust.")] = None,
    output: Annotated[list[str] | None, typer.Option(help="What goes there; repeatable. Left out: SEG, SR.")] = None,
    fallback: Annotated[list[str] | None, typer.Option(help="What goes instead: SEG=key-images; repeatable.")] = None,
) -> None:
    """Add or replace a destination; results made from now on go there too."""
    from daemon.cli.run import parse_destination

    here = house(config)
    if name in {d.name for d in here.settings.destination}:
        typer.secho(f"overread: {name} stands in the configuration file; change it there", err=True)
        raise typer.Exit(EXIT_ERROR)
    files = {"token_file": token_file, "password_file": password_file, "ca_file": ca_file}
    given: dict[str, object] = {option: path.resolve() for option, path in files.items() if path}
    given |= {option: tuple(kinds) for option, kinds in (("outputs", output), ("fallback", fallback)) if kinds}
    if tls and here.settings.tls.authorities is None:
        raise typer.BadParameter("--tls needs tls.authorities in the configuration, the file its certificate's is in")
    section = parse_destination(f"{name}={address}", tls=tls, **given).model_copy(update={"commitment": commitment})
    secured = here.settings.tls.client(section.ae_title or "") if tls else None
    here.deliveries.add_destination(replace(section.destination, tls=secured))
    how = " by TLS" if tls else ""
    note_destination(here, "destinations add", name, f"results go to {address}{how} from now on")
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
    """Ask destinations whether they are there (C-ECHO, or a query by HTTP); exit 1 if one is not."""
    here = house(config)
    asked = here.destinations() if name is None else {name: _named(here, name)}
    answers = {n: here.courier().echo(d) for n, d in asked.items()}
    rows = [_EchoRow(name=n, ok=a.ok, seconds=round(a.seconds, 3), detail=a.detail) for n, a in answers.items()]
    table("destinations", rows, ("name", "ok", "seconds", "detail"), as_json=as_json)
    if not all(row.ok for row in rows):
        raise typer.Exit(EXIT_ERROR)


@app.command()
def probe(name: str, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Ask a destination what it takes, sending nothing; exit 1 if it refuses a kind of our results."""
    here = house(config)
    destination = _named(here, name)
    if destination.url:
        raise typer.BadParameter(
            f"{name} is a DICOMweb service and cannot be probed; `overread destinations echo {name}`"
        )
    rows = here.courier().dimse.probe(destination)
    table("services", rows, ("sop_class", "transfer_syntaxes", "uid", "mend"), as_json=as_json)
    if not all(row.transfer_syntaxes for row in rows if row.needed):
        raise typer.Exit(EXIT_ERROR)


def send(
    path: Annotated[Path, typer.Argument(help="A DICOM file, or a folder of them.", exists=True)],
    to: Annotated[str, typer.Option(help="Name of the destination.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send DICOM files to a destination now; exit 1 if one is not stored."""
    here = house(config)
    destination = _named(here, to)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    rows = [
        _SentRow(
            sop_instance_uid=r.sop_instance_uid,
            outcome=r.outcome.value,
            status="" if r.status is None else f"0x{r.status:04X}",
            detail=r.detail,
        )
        for r in sending(here, destination, files)
    ]
    table("objects", rows, ("sop_instance_uid", "outcome", "status", "detail"), as_json=as_json)
    if any(row.outcome != "stored" for row in rows):
        raise typer.Exit(EXIT_ERROR)


def _named(here: "House", name: str) -> "Destination":
    known = here.destinations()
    if name not in known:
        raise typer.BadParameter(f"no destination {name}; see `overread destinations list`")
    return known[name]
