"""pause and resume: hold work for a while, such as for an upgrade of the PACS; nothing is lost by it."""

from typing import Annotated

import typer

from daemon.cli.audit import note_action
from daemon.cli.ledger import house
from daemon.cli.output import ConfigOption


def pause(
    config: ConfigOption = None,
    jobs: Annotated[bool, typer.Option(help="Claim no new jobs; those that run are finished.")] = True,
    deliveries: Annotated[bool, typer.Option("--deliveries", help="Call no destination either.")] = False,
    reception: Annotated[
        bool, typer.Option("--reception", help="Reject associations too, for now: senders keep what they have.")
    ] = False,
) -> None:
    """Hold work until `resume`, over restarts too: jobs, and more where told; reception goes on unless told.

    What is under way is finished. What `delivery` counts in days goes on counting.
    """
    from daemon.domain.pause import Activity

    wanted = {Activity.JOBS: jobs, Activity.DELIVERIES: deliveries, Activity.RECEPTION: reception}
    chosen = [activity for activity, named in wanted.items() if named]
    if not chosen:
        raise typer.BadParameter("--no-jobs alone pauses nothing; add --deliveries or --reception")
    here = house(config)
    here.pauses.begin(chosen, here.reporter("pause").person.user_id, here.clock.now())
    note_action(here, "pause", f"pauses/{','.join(chosen)}")
    typer.echo(f"paused: {', '.join(pause.activity for pause in here.pauses.all())}")


def resume(config: ConfigOption = None) -> None:
    """Go on with all that is paused."""
    here = house(config)
    ended = here.pauses.end()
    note_action(here, "resume", f"pauses/{','.join(ended)}")
    typer.echo(f"resumed: {', '.join(ended)}" if ended else "nothing was paused")
