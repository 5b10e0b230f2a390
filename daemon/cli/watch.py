"""watch: what the daemon does, as it does it."""

import shutil
import time
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from daemon.cli.ledger import cares, house
from daemon.cli.output import ConfigOption, cell, screen

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from daemon.bootstrap import House

_HOUR = timedelta(hours=1)
_SHARES = {"half": 0.5, "95 %": 0.95}


def watch(
    config: ConfigOption = None,
    once: Annotated[bool, typer.Option("--once", help="Draw it once, and end.")] = False,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 2.0,
) -> None:
    """Watch queues, destinations, disk and the newest failures until Ctrl-C; `status --json` is for programs."""
    from rich.live import Live

    here, console = house(config), screen()
    if once:
        console.print(_picture(here))
        return
    with suppress(KeyboardInterrupt), Live(_picture(here), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(every)
            live.update(_seen(here), refresh=True)


def _seen(here: "House") -> "RenderableType":
    """Return the picture, or why there is none at this moment: a ledger that restarts is seen again."""
    from daemon.errors import OverreadError

    try:
        return _picture(here)
    except OverreadError as error:
        return str(error)


def _picture(here: "House") -> "RenderableType":
    from rich.console import Group
    from rich.text import Text

    from daemon.ledger.overview import Overview

    now = here.clock.now()
    troubles = _rows("newest failures", "when", "what", "why")
    for one in Overview(here.engine).troubles():
        troubles.add_row(cell(one.at), one.what, one.why)
    notes = [Text(care, style="yellow") for care in cares(here)]
    notes += [Text(f"{pause.activity} paused since {cell(pause.since)} by {pause.by}") for pause in here.pauses.all()]
    return Group(Text(f"Overread, {cell(now)}"), _queues(here), _destinations(here), troubles, *notes)


def _queues(here: "House") -> "Table":
    from daemon.domain.delivery import DeliveryState
    from daemon.domain.job import JobState
    from daemon.ledger.figures import figures

    now = here.clock.now()
    found = figures(here.engine, now - _HOUR, settled=False)
    rows = _rows("work", "what", "now")
    jobs = {state: found.jobs_in(state) for state in (JobState.SCHEDULED, JobState.IN_PROGRESS, JobState.FAILED)}
    rows.add_row("jobs", ", ".join(f"{count} {state.value}" for state, count in jobs.items()))
    states = (DeliveryState.PENDING, DeliveryState.SENT, DeliveryState.UNCONFIRMED, DeliveryState.DEAD)
    rows.add_row("deliveries", ", ".join(f"{found.deliveries_in(state)} {state.value}" for state in states))
    for name, head in (("oldest job that waits", found.oldest_job), ("oldest delivery", found.oldest_delivery)):
        rows.add_row(name, f"{(now - head).total_seconds():.0f} s" if head else "none")
    recent = found.recent
    rows.add_row("last hour", f"{recent.studies} studies in, {len(recent.seconds)} answered")
    within = {name: recent.quantile(share) for name, share in _SHARES.items()}
    told = ", ".join(f"{name} within {seconds:.0f} s" for name, seconds in within.items() if seconds is not None)
    rows.add_row("last instance to result", told or "none in the last hour")
    rows.add_row("disk", f"{shutil.disk_usage(here.settings.data.folder).free / (1 << 30):.1f} GB free")
    return rows


def _destinations(here: "House") -> "Table":
    from daemon.domain.delivery import reached

    circuits, rows = here.circuits.all(), _rows("destinations", "name", "stands", "why")
    for name in here.destinations():
        circuit = circuits.get(name)
        rows.add_row(
            name, reached(circuit), "" if circuit is None else f"since {cell(circuit.since)}: {circuit.reason}"
        )
    return rows


def _rows(title: str, *columns: str) -> "Table":
    from rich.table import Column, Table

    heads = [Column(name, overflow="fold") for name in columns]
    return Table(*heads, title=title, title_justify="left", expand=True)
