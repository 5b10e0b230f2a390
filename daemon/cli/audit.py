"""audit: who did what; and the records that other commands leave there."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from daemon.cli.output import EXIT_ERROR, ConfigOption, JsonOption, emit, table

if TYPE_CHECKING:
    from daemon.bootstrap import House
    from daemon.domain.delivery import Destination, SendResult
    from daemon.domain.instance import Instance

app = typer.Typer(help="The audit log: who did what to which study.", no_args_is_help=True)


@dataclass(frozen=True, kw_only=True)
class _Row:
    number: int
    time: str
    event: str
    type: str
    outcome: int | None
    who: tuple[str, ...]
    what: tuple[str, ...]
    message: str


@app.command("list")
def list_events(
    config: ConfigOption = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List events, newest first; that the log was read is an event too. `--json` shows the messages whole."""
    from daemon.domain.audit import log_used

    here = _house(config)
    newest = deque(((line.place, line.document or {}) for line in here.trail.chain.lines()), maxlen=limit)
    uri = here.trail.chain.path.as_uri()
    here.trail.record([log_used(here.reporter("audit list"), here.clock.now(), uri)])
    rows = [_row(place, document) for place, document in reversed(newest)]
    table("events", rows, ("number", "time", "event", "type", "outcome", "who", "what"), as_json=as_json)


def _row(place: int, document: dict[str, object]) -> _Row:
    """Return a line for people; what of it was damaged is left empty, and `audit verify` says where."""
    outcome, who, what = (document.get(key) for key in ("outcome", "who", "what"))
    return _Row(
        number=place,
        time=str(document.get("time", "")),
        event=str(document.get("event", "unreadable line")),
        type=str(document.get("type", "")),
        outcome=outcome if isinstance(outcome, int) else None,
        who=tuple(map(str, who)) if isinstance(who, list) else (),
        what=tuple(map(str, what)) if isinstance(what, list) else (),
        message=str(document.get("message", "")),
    )


@app.command()
def verify(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Walk the log's hash chain; exit 1 with the first line that breaks it."""
    chain = _house(config).trail.chain
    verdict = chain.verify()
    if as_json:
        emit(verdict)
    elif verdict.broken_at is None:
        typer.echo(f"{verdict.lines} lines, the chain holds; the last one's SHA-256 is {verdict.digest}")
    else:
        typer.secho(f"overread: {chain.path}: line {verdict.broken_at}: {verdict.reason}", err=True)
    if verdict.broken_at is not None:
        raise typer.Exit(EXIT_ERROR)


@app.command()
def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show how far the Audit Record Repository is behind the log, and why."""
    from dataclasses import asdict

    from daemon.audit.forward import progress

    here = _house(config)
    repository, found = here.settings.audit.repository, progress(here.trail.chain)
    if as_json:
        emit({"repository": repository, **asdict(found)})
    elif not repository:
        typer.echo(f"{found.lines} messages in the log; audit.repository names nobody to send them to")
    else:
        typer.echo(f"{repository} has {found.sent} of {found.lines} messages, {found.waiting} wait")
        if found.waiting:
            typer.echo(f"the oldest of them is of {found.oldest}")
        if found.failures:
            typer.echo(f"{found.failures} failures since {found.since}: {found.reason}")


def note_action(here: "House", command: str, resource: str) -> None:
    """Record that a person used a command that changes what the daemon does; `resource` is such as `jobs/7`."""
    from daemon.domain import audit

    uri = f"{here.settings.data.folder.as_uri()}#{resource}"
    subject = audit.resource(uri, audit.ObjectRole.JOB, resource, f"overread {command}")
    here.trail.record([audit.acted(here.reporter(command), here.clock.now(), audit.RESTRICTED_FUNCTION, subject)])


def note_destination(here: "House", command: str, name: str, change: str) -> None:
    """Record that a person changed where results go."""
    from daemon.domain import audit

    uri = f"{here.settings.data.folder.as_uri()}#destinations/{name}"
    subject = audit.resource(uri, audit.ObjectRole.MASTER_FILE, name, f"overread {command}: {change}")
    here.trail.record([audit.acted(here.reporter(command), here.clock.now(), audit.NETWORK_CONFIGURATION, subject)])


def sending(here: "House", destination: "Destination", files: Sequence[Path]) -> "Iterator[SendResult]":
    """Send files, yield their results, and record what went out, also where the person breaks off."""
    instances = [_instance(here, path) for path in files]
    sent: list[tuple[Instance, SendResult]] = []
    try:
        for instance, result in zip(instances, here.courier().send(destination, files), strict=True):
            if instance is not None:
                sent.append((instance, result))
            yield result
    finally:
        here.departures("send").by_hand(destination, sent)


def _instance(here: "House", path: Path) -> "Instance | None":
    """Return a file's facts; None where it names no study, of which no transfer message can be made."""
    from daemon.errors import RefusedError
    from daemon.imaging.facts import Stored, read_facts

    stored = Stored(digest="", size=path.stat().st_size, received_at=here.clock.now(), patient_salt=here.salt())
    try:
        return read_facts(path, stored)
    except RefusedError:
        return None


def _house(config: Path | None) -> "House":
    from daemon.bootstrap import House
    from daemon.config import load

    return House(load(config))
