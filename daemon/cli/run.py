"""init, serve, and the parts of serve."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from daemon.cli.output import ConfigOption

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.bell import Stop
    from daemon.bootstrap import House
    from daemon.config.sections import DestinationSection, ListenerSection

LOGGER = logging.getLogger(__name__)
_DESTINATION = re.compile(r"(?P<name>[^=]+)=(?P<ae_title>[^@]+)@(?P<host>.+):(?P<port>\d+)")


HOST = "127.0.0.1"
_SERVICE = re.compile(r"(?P<name>[^=]+)=(?P<url>https?://.+)")


def init(
    folder: Annotated[Path, typer.Argument(help="Where configuration and data go.")],
    ae_title: Annotated[str, typer.Option(help="Our AE title.")] = "OVERREAD",
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all, else this machine alone.")] = HOST,
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 11112,
    destination: Annotated[list[str] | None, typer.Option(help="NAME=AET@HOST:PORT or NAME=URL; repeatable.")] = None,
    allow: Annotated[list[str] | None, typer.Option(help="AE or AE@ADDRESS that may send to us; repeatable.")] = None,
    copied: Annotated[bool, typer.Option("--copied", help="You copied the ledger yourself; make no copy.")] = False,
) -> None:
    """Write a commented FOLDER/overread.toml, make the data folder, migrate the ledger.

    An existing configuration is kept; the ledger is migrated all the same, after a copy of it was made.
    """
    from daemon import config
    from daemon.bootstrap import House
    from daemon.cli.migration import upgrade
    from daemon.cli.template import template

    path = folder / config.CONFIG_NAME
    if path.exists():
        typer.echo(f"kept {path}")
    else:
        listener = parse_listener(ae_title, (host, port), tuple(allow or ()))
        destinations = [parse_destination(text) for text in destination or ()]
        names = [one.name for one in destinations]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise typer.BadParameter(f"{', '.join(twice)} stands twice; give every destination a name of its own")
        text = template(listener.model_dump(), destinations)
        # Only now: a file with a wrong value would be kept, and refused, by every later init.
        folder.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)  # it may hold the password of the ledger's server
        path.write_text(text, encoding="utf-8")
        typer.echo(f"wrote {path}")
    settings = config.load(path)
    settings.data.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    upgrade(House(settings), copied=copied)
    typer.echo(f"ledger ready: {settings.database_url().rsplit('@', 1)[-1]}")
    if not settings.listener.allowed_callers and not settings.listener.allow_any_caller:
        typer.echo("nobody may send yet: set listener.allowed_callers")


def parse_listener(ae_title: str, place: tuple[str, int], callers: tuple[str, ...]) -> "ListenerSection":
    """Return the listener's section with what the options say."""
    from pydantic import ValidationError

    from daemon.config.sections import ListenerSection

    try:
        host, port = place
        told = {"ae_title": ae_title, "host": host, "port": port, "allowed_callers": callers}
        return ListenerSection.model_validate(told)
    except ValidationError as error:
        fault = error.errors()[0]
        raise typer.BadParameter(f"{fault['loc'][0]} {fault['input']!r}: {fault['msg']}") from error


def parse_destination(text: str, **options: object) -> "DestinationSection":
    """Return the destination that NAME=AET@HOST:PORT or NAME=URL names; `options` are further keys of its table."""
    from pydantic import ValidationError

    from daemon.config.sections import DestinationSection

    match = _SERVICE.fullmatch(text) or _DESTINATION.fullmatch(text)
    if not match:
        raise typer.BadParameter(f"{text!r} is not NAME=AET@HOST:PORT, nor NAME=https://HOST/dicom-web")
    try:
        return DestinationSection.model_validate({**match.groupdict(), **options})
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


def web_user(
    name: Annotated[str, typer.Argument(help="What they log in with: letters, digits and . _ @ -")],
    role: Annotated[
        str,
        typer.Option(help="viewer looks, operator also retries and replays, admin also accepts and sees the audit."),
    ] = "viewer",
) -> None:
    """Ask for a password and print the entry for web.logins, the console's; the password itself is kept nowhere."""
    need_web()
    from daemon.domain.console import Role
    from daemon.web.passwords import new_user

    if role not in set(Role):
        raise typer.BadParameter(f"role {role!r}: {', '.join(Role)}")
    password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    try:
        made = new_user(name, Role(role), password)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    typer.echo(f'logins = ["{made}"]')


def web_token(
    name: Annotated[str, typer.Argument(help="What you call the program: letters, digits and . _ @ -")],
    role: Annotated[
        str, typer.Option(help="What it may do; viewer is enough for DICOMweb, Try it needs operator.")
    ] = "viewer",
) -> None:
    """Make a bearer token for DICOMweb or Try it: shown once, and its entry for web.tokens, with its digest alone."""
    import secrets

    from daemon.domain.console import ConsoleToken, Role

    token = secrets.token_urlsafe(32)
    try:
        made = ConsoleToken.parse(str(ConsoleToken.of(name, Role(role), token)))
    except ValueError as error:
        raise typer.BadParameter(f"name {name!r} or role {role!r}: roles are {', '.join(Role)}") from error
    typer.echo(f"token, shown this once: {token}", err=True)
    typer.echo(f'tokens = ["{made}"]')


def serve(config: ConfigOption = None) -> None:
    """Run everything: listener, workers, delivery, console; each in a process of its own, restarted if it dies.

    The listener starts first, and the others once it listens, so that a study that comes meanwhile is taken.
    """
    from daemon.cli.listening import gate, listens
    from daemon.cli.listening import parts as listeners
    from daemon.config import locate
    from daemon.runtime import Lead, Supervisor, loaded, worker_name
    from daemon.second import shadows
    from daemon.workforce import by_messages
    from daemon.workforce import need as need_celery

    with _running(config, "serve") as (house, stop):
        # A model that is damaged ends us here, rather than every worker.
        LOGGER.info("%d models installed", len(house.bundles))
        shadows(house.settings)
        inference, listener = house.settings.inference, house.settings.listener
        seconds = max(inference.stop_seconds, listener.stop_seconds)
        if by_messages(house):
            need_celery()
            parts = [*listeners(listener), "dispatch", *["work"] * (inference.workers > 0), "deliver"]
        else:
            parts = [*listeners(listener), *["work"] * inference.workers, "deliver"]
        if house.settings.web.enabled:
            need_web()
            parts.append("web")
        losses = house.losses()

        def lost(part: str, pid: int, code: int) -> None:
            if part == "work":
                losses.worker_lost(worker_name(pid), code)

        lead = Lead(parts=listener.processes, there=lambda: listens(house))
        loaded()
        with gate(listener):
            Supervisor(locate(config), parts, seconds, lost).run(stop, lead)


def listen(
    config: ConfigOption = None,
    # Which one of several it is, from 1 on; for the supervisor alone.
    process: Annotated[int, typer.Option(min=0, hidden=True)] = 0,
) -> None:
    """Run the listener alone: receive into spool and ledger, in listener.processes processes."""
    from daemon.cli.listening import gate, parts, receive
    from daemon.config import locate
    from daemon.runtime import SUPERVISED, Supervisor, loaded

    if process and SUPERVISED not in os.environ:
        raise typer.BadParameter("--process is for the daemon itself; run `overread listen`, which starts all of them")
    with _running(config, "listen") as (house, stop):
        section = house.settings.listener
        if process or section.processes == 1:
            receive(house, stop, process)
            return
        loaded()
        with gate(section):
            Supervisor(locate(config), parts(section), section.stop_seconds, lambda *_: None).run(stop)


def work(config: ConfigOption = None) -> None:
    """Run one worker alone: assemble studies, process jobs, look at what comes back of results.

    With queue.executor = celery: all workers of this machine, which process jobs that messages tell of.
    """
    from daemon.domain.audit import stopped
    from daemon.domain.news import News
    from daemon.runtime import cap_memory, die, end_first, grace, loaded, loop
    from daemon.second import quietly, shadowing
    from daemon.workforce import by_messages
    from daemon.workforce import work as work_by_messages

    with _running(config, "work") as (house, stop):
        if by_messages(house):
            LOGGER.info("%d models installed", len(house.bundles))
            work_by_messages(house, stop)
            return
        cap_memory(house.settings.inference.memory_mb)
        end_first()
        house.reader.warm()
        assemble, review, process = house.assemble(), house.review(), house.process(shadowing(house.settings))
        beside = quietly(house, stop, assemble.step)
        loaded(seldom=True)

        def turn() -> int:
            return assemble.step() + review.step() + (not stop.is_set() and process.step()) or beside.step()

        def abandon() -> None:
            if process.give_back():
                text = "stopped before its job was done; the job was given back"
                house.trail.record([stopped(house.reporter("work"), house.clock.now(), text)])
                die()

        with (
            grace(stop, house.settings.inference.stop_seconds, abandon),
            house.bells.heard(stop, News.STUDY, News.JOB) as ear,
        ):
            loop("work", turn, stop, rest=lambda seconds: ear.wait(assemble.within(seconds)))


def dispatch(config: ConfigOption = None) -> None:
    """With queue.executor = celery: assemble studies, look at what comes back, tell workers of jobs by messages."""
    from daemon.domain.news import News
    from daemon.errors import FatalError
    from daemon.runtime import POLL_SECONDS, beside, loaded, loop
    from daemon.second import quietly
    from daemon.workforce import by_messages
    from daemon.workforce import dispatch as dispatching

    with _running(config, "dispatch") as (house, stop):
        if not by_messages(house):
            raise FatalError("nobody waits for messages: set queue.executor = celery, or run `overread work` alone")
        assemble, review, telling = house.assemble(), house.review(), dispatching(house)
        loaded()
        # In a thread of its own: a broker that hangs holds no study.
        with (
            house.bells.heard(stop, News.JOB) as jobs,
            house.bells.heard(stop, News.STUDY) as studies,
            beside("dispatch", telling.step, stop, POLL_SECONDS, jobs.wait),
            beside("second reads", quietly(house, stop).step, stop, POLL_SECONDS),
        ):
            loop(
                "assemble",
                lambda: assemble.step() + review.step(),
                stop,
                rest=lambda seconds: studies.wait(assemble.within(seconds)),
            )


def deliver(config: ConfigOption = None) -> None:
    """Run delivery alone: send, confirm, retire; ask the archive; tell who is to be told."""
    from daemon.cli.notify import watching
    from daemon.domain.news import News
    from daemon.runtime import LOST, POLL_SECONDS, RETIRE_SECONDS, WATCH_SECONDS, Posting, beside, loaded, loop

    with _running(config, "deliver") as (house, stop):
        house.circuits.hasten(house.clock.now())
        send, confirm = house.post()
        retire, times = house.retire(), house.times()
        posting = Posting(
            lambda: tuple(house.destinations()), (send, confirm), partial(house.bells.heard, stop, News.OUTPUT)
        )
        loaded()
        posting.refresh(stop)

        arrivals = house.arrivals(house.intake(), "deliver")

        def tend() -> int:
            posting.refresh(stop)
            now = house.clock.now()
            arrivals.close_all(now, now - LOST)
            if righted := times.correct(now):
                LOGGER.warning(
                    "%d times lay too far ahead, by a clock that was set right since; they are due now", righted
                )
            send.bury()
            confirm.bury()
            return retire.step()

        inquiry = house.inquire() if house.settings.assembly.archive else None
        with (
            beside("inquire", inquiry.step if inquiry else None, stop, POLL_SECONDS),
            beside("watch", watching(house, stop), stop, WATCH_SECONDS),
        ):
            loop("retire", tend, stop, RETIRE_SECONDS / 12)
            posting.join()


def web(config: ConfigOption = None) -> None:
    """Run the administrator's console alone, whether `web.enabled` says so or not."""
    need_web()
    from daemon.runtime import CONSOLE, marked
    from daemon.web.server import serve as answer

    with (
        _running(config, "web") as (house, stop),
        marked(house.settings.data.folder / CONSOLE, house.settings.web.address),
    ):
        answer(house, stop)


def need_web() -> None:
    """Check that what the console is made of is installed.

    Raises:
        FatalError: it is not.
    """
    from importlib.util import find_spec

    from daemon.errors import FatalError

    wanted = ("argon2", "fastapi", "jinja2", "prometheus_client", "python_multipart", "uvicorn")
    absent = [name for name in wanted if not find_spec(name)]
    if absent:
        raise FatalError(
            f"the console needs {', '.join(absent)}; run `pip install overread[web]`, or set web.enabled = false"
        )


@contextmanager
def _running(config: Path | None, command: str) -> "Iterator[tuple[House, Stop]]":
    """Yield the house and what stops us; start and stop are in the audit log."""
    from daemon import bucket, log
    from daemon.bootstrap import House
    from daemon.config import load
    from daemon.runtime import FORWARD_SECONDS, RUNNING, beside, marked, stop_on_signals
    from daemon.workforce import by_messages

    log.configure()
    stop = stop_on_signals()
    house = House(load(config))
    house.ready()
    forks = command == "work" and by_messages(house)
    if not forks:
        bucket.agree(house)
    # The one only supervises; the other forks, which no thread of ours may be amid.
    single = command == "serve" or forks
    with (
        marked(house.settings.data.folder / RUNNING, command),
        house.lifetime(command),
        beside("audit forwarding", None if single else _forwarding(house), stop, FORWARD_SECONDS),
        beside("upload", None if single else bucket.uploading(house), stop, bucket.UPLOAD_SECONDS),
    ):
        try:
            yield house, stop
        finally:
            # Where it ends by an error, threads that wait for this would keep half a process alive.
            stop.set()


def _forwarding(house: "House") -> "Callable[[], object] | None":
    """Return what sends this machine's audit trail on; one of its parts does, as long as that lives."""
    from daemon.runtime import FORWARDING, alone

    forwarder = house.forwarder()
    return alone(house.settings.data.folder / FORWARDING, forwarder.step) if forwarder else None
