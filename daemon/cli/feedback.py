"""feedback: what people made of results, and what is handed over to training."""

from pathlib import Path
from typing import Annotated

import typer

from daemon.cli.audit import note_action
from daemon.cli.ledger import Limit, house, missing
from daemon.cli.output import ConfigOption, JsonOption, emit, one_of, plain, table

app = typer.Typer(help="Corrected outlines that came back, and people's word on results.", no_args_is_help=True)
JobArgument = Annotated[int, typer.Argument(help="Id, as `jobs list` has it.")]


@app.command("list")
def list_feedback(
    config: ConfigOption = None,
    study: Annotated[str | None, typer.Option(help="Only on this study, by its UID.")] = None,
    state: Annotated[str | None, typer.Option(help="Only in this state: RECEIVED, LINKED or UNLINKED.")] = None,
    limit: Limit = 50,
    as_json: JsonOption = False,
) -> None:
    """List feedback, newest first; what is UNLINKED says why it is of no result of ours."""
    from daemon.domain.feedback import FeedbackState
    from daemon.ledger.opinions import Opinions

    columns = ("id", "kind", "state", "at", "by", "job_id", "model", "version", "evidence", "dice", "ml", "detail")
    rows = Opinions(house(config).engine).listed(study=study, state=one_of(FeedbackState, state), limit=limit)
    table("feedback", rows, columns, as_json=as_json)


@app.command("show")
def show_feedback(feedback: int, config: ConfigOption = None) -> None:
    """Show one piece of feedback with its history, as JSON."""
    from daemon.ledger.opinions import Opinions

    here = house(config)
    found = Opinions(here.engine).one(feedback)
    if found is None:
        missing(f"no feedback {feedback}; see `overread feedback list`")
    emit({"feedback": plain(found), "events": plain(here.queries.events(feedback, "feedback"))})


@app.command("stats")
def stats(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show for each model how many answers were accepted, rejected or corrected, and the median Dice."""
    from daemon.ledger.opinions import Opinions

    rows = Opinions(house(config).engine).stats()
    if as_json:
        emit([{**plain(row), "acceptance": row.acceptance} for row in rows])
        return
    columns = ("model", "version", "answers", "accepted", "rejected", "corrected", "acceptance", "dice")
    table("feedback", rows, columns, as_json=False)


@app.command("accept")
def accept(job: JobArgument, config: ConfigOption = None) -> None:
    """Say that a job's answer is right."""
    _say(config, job, "accepted")


@app.command("reject")
def reject(job: JobArgument, config: ConfigOption = None) -> None:
    """Say that a job's answer is wrong."""
    _say(config, job, "rejected")


@app.command("export")
def export(
    out: Annotated[Path, typer.Option(help="A new or empty folder; it will hold images of patients.")],
    config: ConfigOption = None,
    again: Annotated[bool, typer.Option("--again", help="Those that were exported before, too.")] = False,
) -> None:
    """Hand corrections over, each with the images it was drawn on and our own outline, for `training harvest`."""
    from daemon.cli.handover import INDEX, hand_over
    from daemon.domain.feedback import FeedbackKind
    from daemon.ledger.opinions import Opinions

    here = house(config)
    opinions = Opinions(here.engine)
    words = [view for view in opinions.linked() if view.kind != FeedbackKind.CORRECTION]
    done = hand_over(here.spool, opinions.bequests(again=again), words, out)
    here.feedback.exported(done, here.clock.now())
    for one in done:
        note_action(here, "feedback export", f"feedback/{one}")
    typer.echo(f"{len(done)} corrections are in {out}; {INDEX} names them")


def _say(config: Path | None, job: int, word: str) -> None:
    from daemon.domain.feedback import FeedbackKind

    here = house(config)
    by = here.reporter("feedback").person.user_id
    here.feedback.say(job, FeedbackKind(word), by, here.clock.now())
    note_action(here, f"feedback {word}", f"jobs/{job}")
    typer.echo(f"the answer of job {job} is {word}")
