"""init, serve, and the parts of serve."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from daemon.cli.output import ConfigOption

if TYPE_CHECKING:
    import threading

    from daemon.bootstrap import House
    from daemon.config import DestinationSection, ListenerSection

LOGGER = logging.getLogger(__name__)
_DESTINATION = re.compile(r"(?P<name>[^=]+)=(?P<ae_title>[^@]+)@(?P<host>.+):(?P<port>\d+)")


_SERVICE = re.compile(r"(?P<name>[^=]+)=(?P<url>https?://.+)")


def init(
    folder: Annotated[Path, typer.Argument(help="Where configuration and data go.")],
    ae_title: Annotated[str, typer.Option(help="Our AE title.")] = "OVERREAD",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 11112,
    destination: Annotated[list[str] | None, typer.Option(help="NAME=AET@HOST:PORT or NAME=URL; repeatable.")] = None,
    allow: Annotated[list[str] | None, typer.Option(help="AE or AE@ADDRESS that may send to us; repeatable.")] = None,
) -> None:
    """Write a commented FOLDER/overread.toml, make the data folder, migrate the ledger.

    An existing configuration is kept; the ledger is migrated all the same.
    """
    from daemon import config
    from daemon.bootstrap import House
    from daemon.cli.template import template

    path = folder / config.CONFIG_NAME
    if path.exists():
        typer.echo(f"kept {path}")
    else:
        listener = parse_listener(ae_title, port, tuple(allow or ()))
        text = template(listener.model_dump(), [parse_destination(text) for text in destination or ()])
        # Only now: a file with a wrong value would be kept, and refused, by every later init.
        folder.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)  # it may hold the password of the ledger's server
        path.write_text(text, encoding="utf-8")
        typer.echo(f"wrote {path}")
    settings = config.load(path)
    settings.data.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    House(settings).migrate()
    typer.echo(f"ledger ready: {settings.database_url().rsplit('@', 1)[-1]}")
    if not settings.listener.allowed_callers and not settings.listener.allow_any_caller:
        typer.echo("nobody may send yet: set listener.allowed_callers")


def parse_listener(ae_title: str, port: int, callers: tuple[str, ...]) -> "ListenerSection":
    """Return the listener's section with what the options say."""
    from pydantic import ValidationError

    from daemon.config import ListenerSection

    try:
        return ListenerSection.model_validate({"ae_title": ae_title, "port": port, "allowed_callers": callers})
    except ValidationError as error:
        fault = error.errors()[0]
        raise typer.BadParameter(f"{fault['loc'][0]} {fault['input']!r}: {fault['msg']}") from error


def parse_destination(text: str, *, tls: bool = False, **files: Path) -> "DestinationSection":
    """Return the destination that NAME=AET@HOST:PORT or NAME=URL names."""
    from pydantic import ValidationError

    from daemon.config import DestinationSection

    match = _SERVICE.fullmatch(text) or _DESTINATION.fullmatch(text)
    if not match:
        raise typer.BadParameter(f"{text!r} is not NAME=AET@HOST:PORT, nor NAME=https://HOST/dicom-web")
    try:
        return DestinationSection.model_validate({**match.groupdict(), **files, "tls": tls})
    except ValidationError as error:
        raise typer.BadParameter(f"{text!r}: {error.errors()[0]['msg']}") from error


def user(name: Annotated[str, typer.Argument(help="What callers name, by user identity negotiation.")]) -> None:
    """Ask for a passcode and print the entry for listener.users; the passcode itself is kept nowhere."""
    import secrets

    from daemon.domain.identity import User

    passcode: str = typer.prompt("Passcode", hide_input=True, confirmation_prompt=True, err=True)
    made = User.make(name, passcode.encode(), secrets.token_bytes(16))
    try:
        User.parse(str(made))
    except ValueError as error:
        raise typer.BadParameter(f"{name!r} is no user name: 1 to 64 characters, no =, no space first") from error
    typer.echo(f'users = ["{made}"]')


def serve(config: ConfigOption = None) -> None:
    """Run everything: listener, workers, delivery; each in a process of its own, restarted if it dies."""
    from daemon.config import locate
    from daemon.runtime import Supervisor

    with _running(config, "serve") as (house, stop):
        house.reader.bundles()
        inference = house.settings.inference
        seconds = max(inference.stop_seconds, house.settings.listener.stop_seconds)
        Supervisor(locate(config), inference.workers, seconds).run(stop)


def listen(config: ConfigOption = None) -> None:
    """Run the listener alone: receive into spool and ledger."""
    from daemon.runtime import LISTENING, marked

    with _running(config, "listen") as (house, stop):
        house.note_settings("listen")
        intake = house.intake()
        for digest in house.reconcile(intake):
            LOGGER.error(
                "an acknowledged file is gone from the spool: %s; ask its sender to send the study again", digest
            )
        folder, address = house.settings.data.folder, house.settings.listener.address
        with house.listener(intake), marked(folder / LISTENING, address):
            stop.wait()
        intake.close()


def work(config: ConfigOption = None) -> None:
    """Run one worker alone: assemble studies and process jobs."""
    from daemon.bootstrap import die
    from daemon.domain.audit import stopped
    from daemon.runtime import cap_memory, grace, loop

    with _running(config, "work") as (house, stop):
        cap_memory(house.settings.inference.memory_mb)
        assemble, process = house.assemble(), house.process()

        def abandon() -> None:
            if process.give_back():
                text = "stopped before its job was done; the job was given back"
                house.trail.record([stopped(house.reporter("work"), house.clock.now(), text)])
                die()

        with grace(stop, house.settings.inference.stop_seconds, abandon):
            loop("work", lambda: assemble.step() + (not stop.is_set() and process.step()), stop)


def deliver(config: ConfigOption = None) -> None:
    """Run delivery alone: send, confirm, retire; ask the archive; send the audit trail to its repository."""
    from daemon.runtime import FORWARD_SECONDS, POLL_SECONDS, RETIRE_SECONDS, Posting, beside, loop

    with _running(config, "deliver") as (house, stop):
        house.circuits.hasten(house.clock.now())
        send, confirm = house.post()
        retire, times = house.retire(), house.times()
        posting = Posting(lambda: tuple(house.destinations()), (send, confirm))
        posting.refresh(stop)

        def tend() -> int:
            posting.refresh(stop)
            if righted := times.correct(house.clock.now()):
                LOGGER.warning(
                    "%d times lay too far ahead, by a clock that was set right since; they are due now", righted
                )
            send.bury()
            confirm.bury()
            return retire.step()

        forwarder = house.forwarder()
        inquiry = house.inquire() if house.settings.assembly.archive else None
        with (
            beside("audit forwarding", forwarder.step if forwarder else None, stop, FORWARD_SECONDS),
            beside("inquire", inquiry.step if inquiry else None, stop, POLL_SECONDS),
        ):
            loop("retire", tend, stop, RETIRE_SECONDS / 12)
            posting.join()


@contextmanager
def _running(config: Path | None, command: str) -> "Iterator[tuple[House, threading.Event]]":
    """Yield the house and what stops us; start and stop are in the audit log."""
    from daemon import log
    from daemon.bootstrap import House
    from daemon.config import load
    from daemon.runtime import stop_on_signals

    log.configure()
    stop = stop_on_signals()
    house = House(load(config))
    house.ready()
    with house.lifetime(command):
        yield house, stop
