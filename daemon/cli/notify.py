"""notify: who is told, and whether a message gets there."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from daemon.cli.ledger import house
from daemon.cli.output import EXIT_ERROR, ConfigOption, JsonOption, table

if TYPE_CHECKING:
    import threading

    from daemon.bootstrap import House


@dataclass(frozen=True, kw_only=True)
class _Row:
    channel: str
    arrived: bool
    detail: str


def notify(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Send what would be told now, or that all is well, by each way of [notify]; exit 1 if it does not get there."""
    import socket

    from daemon.domain.alarm import Notice
    from daemon.errors import FatalError, RetryableError
    from daemon.watch import channels, look

    here = house(config)
    ways = channels(here)
    if not ways:
        raise FatalError("nobody is told: set notify.webhook, or notify.mail_server, mail_from and mail_to")
    message = Notice(host=socket.gethostname(), began=look(here), ended=(), standing={})
    rows = []
    for way in ways:
        try:
            amiss = way.send(message)
        except RetryableError as error:
            rows.append(_Row(channel=way.name, arrived=False, detail=str(error)))
        else:
            rows.append(_Row(channel=way.name, arrived=not amiss, detail=amiss or message.title))
    table("messages", rows, ("channel", "arrived", "detail"), as_json=as_json)
    if not all(row.arrived for row in rows):
        raise typer.Exit(EXIT_ERROR)


def watching(here: "House", stop: "threading.Event") -> Callable[[], int] | None:
    """Return a step that looks once and tells what changed; None where nobody is to be told."""
    import os
    import socket

    from daemon.runtime import SUPERVISED
    from daemon.watch import watch

    watcher = watch(here, with_listener=SUPERVISED in os.environ)
    quiet = here.settings.notify.quiet
    return (lambda: watcher.step(socket.gethostname(), quiet, stop)) if watcher else None
