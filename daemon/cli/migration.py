"""ledger: which revision it has, a copy of it, and the way back; `init` is the way forth."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from daemon.cli.output import ConfigOption, JsonOption, table

if TYPE_CHECKING:
    from daemon.bootstrap import House

app = typer.Typer(help="The ledger's revision, its copies, and the way back.", no_args_is_help=True)


@dataclass(frozen=True, kw_only=True)
class _Standing:
    revision: str
    needed: str
    older: tuple[str, ...]
    copies: tuple[Path, ...]


@app.command()
def show(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show the ledger's revision, the one that this release needs, those it can go back to, and the copies made."""
    from daemon.ledger import migrate
    from daemon.ledger.revision import NEWEST, revision

    here = _house(config)
    found = revision(here.engine)
    standing = _Standing(
        revision=found or "",
        needed=NEWEST,
        older=tuple(migrate.older(found)),
        copies=tuple(sorted(here.settings.data.folder.glob("ledger-*.db"))),
    )
    table("ledger", [standing], ("revision", "needed", "older", "copies"), as_json=as_json)


@app.command()
def copy(config: ConfigOption = None) -> None:
    """Copy the ledger, as it is at this moment, into the data folder; what runs goes on."""
    from daemon.ledger import migrate

    here = _house(config)
    typer.echo(f"copied to {migrate.copy(here.engine, here.settings.data.folder, here.clock.now())}")


@app.command()
def downgrade(
    to: Annotated[str, typer.Argument(help="An older revision, of `overread ledger show`.")],
    config: ConfigOption = None,
    copied: Annotated[bool, typer.Option("--copied", help="You copied the ledger yourself; make no copy.")] = False,
) -> None:
    """Bring the ledger back to an older revision, before the release that needs it is installed again.

    The daemon must be stopped. A copy is made first. What only newer revisions know is dropped.
    """
    from daemon.cli.audit import note_action
    from daemon.errors import FatalError
    from daemon.ledger import migrate
    from daemon.ledger.revision import revision

    here = _house(config)
    found = revision(here.engine)
    if to not in (earlier := migrate.older(found)):
        raise FatalError(f"cannot go from {found or 'no revision'} to {to}; older are: {', '.join(earlier) or 'none'}")
    _stopped(here)
    if not copied:
        typer.echo(f"copied to {migrate.copy(here.engine, here.settings.data.folder, here.clock.now())}")
    migrate.downgrade(here.engine, to)
    note_action(here, f"ledger downgrade {to}", f"ledger/{to}")
    typer.echo(f"the ledger is at {to}; install the release that needs it")


def upgrade(here: "House", *, copied: bool) -> None:
    """Bring the ledger to the newest revision; one with anything in it is copied first, and said to be.

    Raises:
        FatalError: the daemon runs, or the ledger is of a newer release, or it must be copied by other means first.
    """
    from daemon.ledger import migrate
    from daemon.ledger.revision import NEWEST, revision

    found = revision(here.engine)
    if found and found != NEWEST:
        migrate.older(found)
        _stopped(here)
        if not copied:
            typer.echo(f"copied to {migrate.copy(here.engine, here.settings.data.folder, here.clock.now())}")
    here.migrate()


def _stopped(here: "House") -> None:
    """Check that no part of the daemon runs on this machine, and nothing on another that shares the ledger's server.

    Raises:
        FatalError: something does.
    """
    from daemon.errors import FatalError
    from daemon.ledger.server import others
    from daemon.runtime import LISTENING, RUNNING, mark

    if processes := others(here.engine):
        raise FatalError(f"the ledger is in use by {', '.join(processes)} (process@machine): stop them, then change it")
    if address := mark(here.settings.data.folder / LISTENING):
        raise FatalError(f"the daemon runs and listens at {address}: stop it, then change its ledger")
    if part := mark(here.settings.data.folder / RUNNING):
        raise FatalError(f"`overread {part}` runs, maybe with others: stop the daemon, then change its ledger")


def _house(config: Path | None) -> "House":
    from daemon.bootstrap import House
    from daemon.config import load

    return House(load(config))
