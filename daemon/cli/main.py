"""The application and its exit codes: 0 done, 1 failed, 2 wrong usage, 3 not processed."""

import sys
from pathlib import Path

import typer

from daemon import log
from daemon.cli import (
    audit,
    deliveries,
    destinations,
    doctor,
    feedback,
    ledger,
    migration,
    models,
    notify,
    outputs,
    pause,
    process,
    run,
    watch,
)
from daemon.cli.output import EXIT_ERROR
from daemon.errors import OverreadError
from daemon.runtime import loading

app = typer.Typer(
    help="A second read of every MRI and PET/CT study, beside the PACS. Research use only.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # what draws the boxes takes longer to load than all else
    context_settings={"max_content_width": 160},
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 study not processed.",
)
app.command()(run.init)
app.command()(run.serve)
app.command()(run.listen)
app.command()(run.work)
app.command()(run.dispatch)
app.command()(run.deliver)
app.command()(run.web)
app.command("process")(process.process)
app.command()(ledger.status)
app.command()(watch.watch)
app.command()(run.user)
app.command()(run.web_user)
app.command()(run.web_token)
app.command()(pause.pause)
app.command()(pause.resume)
app.add_typer(ledger.studies, name="studies")
app.add_typer(ledger.jobs, name="jobs")
app.add_typer(outputs.app, name="outputs")
app.add_typer(deliveries.app, name="deliveries")
app.add_typer(feedback.app, name="feedback")
app.add_typer(destinations.app, name="destinations")
app.command()(destinations.send)
app.add_typer(models.app, name="models")
app.add_typer(audit.app, name="audit")
app.add_typer(migration.app, name="ledger")
app.command("doctor")(doctor.doctor)
app.command("notify")(notify.notify)


@app.command()
def version() -> None:
    """Print the version."""
    from daemon import __version__

    typer.echo(__version__)


def main() -> None:
    """Run the command line; what goes wrong is one line, not a trace, which may quote values of a data set."""
    loading()
    log.hush()
    try:
        app()
    except OverreadError as error:
        typer.secho(f"overread: {error}", err=True, fg=typer.colors.RED)
        sys.exit(EXIT_ERROR)
    except OSError as error:
        # A path may be of a patient's; the one that was typed is its typist's.
        named = next((one for one in sys.argv[1:] if error.filename and Path(one) == Path(str(error.filename))), "")
        where = named or log.place(error.__traceback__)
        typer.secho(f"overread: {where}: {error.strerror or type(error).__name__}", err=True, fg=typer.colors.RED)
        sys.exit(EXIT_ERROR)
    except Exception as error:  # noqa: BLE001 - the edge: whatever it was, nothing of its words may be shown
        said = f"overread: unexpected {type(error).__name__} at {log.place(error.__traceback__)}; please report it"
        typer.secho(said, err=True, fg=typer.colors.RED)
        sys.exit(EXIT_ERROR)
