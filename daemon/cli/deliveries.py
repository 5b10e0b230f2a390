"""deliveries: results on their way, the dead-letter list, and sending again."""

from datetime import datetime
from typing import Annotated

import typer

from daemon.cli.audit import note_action
from daemon.cli.ledger import Limit, house, missing
from daemon.cli.output import ConfigOption, JsonOption, emit, one_of, plain, table

app = typer.Typer(help="Results on their way to destinations.", no_args_is_help=True)
StateOption = Annotated[str | None, typer.Option(help="Only in this state, such as DEAD or UNCONFIRMED.")]
DestinationOption = Annotated[str | None, typer.Option(help="Only to this destination.")]


@app.command("list")
def list_deliveries(
    config: ConfigOption = None,
    state: StateOption = None,
    destination: DestinationOption = None,
    limit: Limit = 50,
    as_json: JsonOption = False,
) -> None:
    """List deliveries, newest first; what is DEAD or UNCONFIRMED says why and how to mend it."""
    from daemon.domain.delivery import DeliveryState

    columns = ("id", "output_id", "kind", "destination", "state", "attempts", "due_at", "detail")
    state = one_of(DeliveryState, state)
    rows = house(config).queries.deliveries(state=state, destination=destination, limit=limit)
    table("deliveries", rows, columns, as_json=as_json)


@app.command("show")
def show_delivery(delivery: int, config: ConfigOption = None) -> None:
    """Show one delivery with its history, as JSON."""
    here = house(config)
    found = here.queries.delivery(delivery)
    if found is None:
        missing(f"no delivery {delivery}; see `overread deliveries list`")
    emit({"delivery": plain(found), "events": plain(here.queries.events(delivery, "delivery"))})


@app.command("replay")
def replay(
    deliveries: Annotated[list[int] | None, typer.Argument(help="Ids; left out, all that the options select.")] = None,
    config: ConfigOption = None,
    state: StateOption = None,
    destination: DestinationOption = None,
    since: Annotated[datetime | None, typer.Option(help="Only what ended then or later, local time.")] = None,
) -> None:
    """Send DEAD and UNCONFIRMED deliveries again: the same objects with the same UIDs; REPLACED ones where named."""
    from daemon.domain.delivery import MISSING, REPLAYABLE, DeliveryState, Selection

    ended, state = [s.value for s in REPLAYABLE], one_of(DeliveryState, state)
    if state is not None and state not in ended:
        raise typer.BadParameter(f"state {state!r}: only {' and '.join(ended)} can be replayed")
    if not (deliveries or state or destination or since):
        raise typer.BadParameter("say which: ids, --destination, --state or --since")
    here = house(config)
    selection = Selection(
        ids=tuple(deliveries or ()),
        destination=destination or "",
        states=(DeliveryState(state),) if state else REPLAYABLE if deliveries else MISSING,
        since=since and since.astimezone(),
    )
    count = here.deliveries.replay(selection, here.clock.now())
    note_action(here, "deliveries replay", f"deliveries?count={count}")
    typer.echo(f"{count} deliveries are PENDING")


@app.command("create")
def create(
    destination: Annotated[str, typer.Option(help="Where to, as `destinations list` names it.")],
    outputs: Annotated[list[int] | None, typer.Argument(help="Ids, as `outputs list` has them.")] = None,
    config: ConfigOption = None,
    since: Annotated[datetime | None, typer.Option(help="Only what was made then or later, local time.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All that never were on their way there.")] = False,
) -> None:
    """Send results to a destination that was not configured when they were made; those that went there are left out."""
    from daemon.domain.delivery import Undelivered

    if sum(map(bool, (outputs, since, every))) != 1:
        raise typer.BadParameter("say which, in one way: output ids, --since or --all")
    here = house(config)
    place = here.destinations().get(destination)
    if place is None:
        missing(f"no destination {destination}; see `overread destinations list`")
    ids, after = tuple(outputs or ()), since and since.astimezone()
    wanted = Undelivered(destination=destination, kinds=place.outputs, ids=ids, since=after)
    count = here.deliveries.create(wanted, here.clock.now())
    note_action(here, "deliveries create", f"deliveries?count={count}")
    typer.echo(f"{count} deliveries to {destination} are PENDING")


@app.command("accept")
def accept(
    deliveries: Annotated[list[int], typer.Argument(help="Ids, as `deliveries list --state UNCONFIRMED` has them.")],
    config: ConfigOption = None,
) -> None:
    """Count UNCONFIRMED deliveries as confirmed, on your word: look them up at the destination first."""
    here = house(config)
    here.deliveries.accept(deliveries, here.reporter("deliveries accept").person.user_id, here.clock.now())
    for delivery in deliveries:
        note_action(here, "deliveries accept", f"deliveries/{delivery}")
    typer.echo(f"{len(set(deliveries))} deliveries are CONFIRMED")


@app.command("retry")
def retry_delivery(delivery: int, config: ConfigOption = None) -> None:
    """Send one DEAD, UNCONFIRMED or REPLACED delivery again."""
    from daemon.domain.delivery import REPLAYABLE, Selection

    here = house(config)
    here.deliveries.replay(Selection(ids=(delivery,), states=REPLAYABLE), here.clock.now())
    note_action(here, "deliveries retry", f"deliveries/{delivery}")
    typer.echo(f"delivery {delivery} is PENDING")
