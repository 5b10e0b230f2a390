"""status, studies, jobs: what the ledger says."""

from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from daemon.cli.audit import note_action
from daemon.cli.output import EXIT_ERROR, ConfigOption, JsonOption, cell, emit, one_of, plain, table

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.bootstrap import House

studies = typer.Typer(help="Studies that were received.", no_args_is_help=True)
jobs = typer.Typer(help="Jobs, their answers and failures.", no_args_is_help=True)
Limit = Annotated[int, typer.Option(help="How many, newest first.")]


def house(config: "Path | None") -> "House":
    """Return the house of a configuration, its ledger migrated."""
    from daemon.bootstrap import House
    from daemon.config import load

    built = House(load(config))
    built.ready()
    return built


def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show how many studies, jobs, deliveries and destinations there are, what is paused, and what needs care."""
    from collections import Counter

    from daemon.domain.delivery import reached

    here = house(config)
    circuits, pauses = here.circuits.all(), here.pauses.all()
    standing = {name: reached(circuits.get(name)) for name in here.destinations()}
    counts = {**here.queries.counts(), "destinations": dict(Counter(standing.values()))}
    needed = cares(here)
    if as_json:
        paused = {pause.activity: {"since": pause.since, "by": pause.by} for pause in pauses}
        emit({**counts, "paused": paused, "cares": needed})
        return
    for name, states in counts.items():
        typer.echo(f"{name:13}" + "  ".join(f"{state} {count}" for state, count in states.items()))
    for name in sorted(standing.keys() & circuits.keys()):
        circuit = circuits[name]
        typer.echo(f"{name}: {circuit.failures} failures since {cell(circuit.since)}: {circuit.reason}")
    for pause in pauses:
        typer.echo(f"{pause.activity} paused since {cell(pause.since)} by {pause.by}; `overread resume` goes on")
    for care in needed:
        typer.secho(care, fg=typer.colors.YELLOW)


def cares(here: "House") -> list[str]:
    """Return what an administrator should see to: certificates that end, results that go nowhere, audit that waits."""
    from daemon.audit.forward import progress
    from daemon.dimse.certificates import ailments
    from daemon.errors import OverreadError
    from daemon.workforce import care

    try:
        found = ailments(here.settings.tls.credentials, here.clock.now())
    except OverreadError as error:
        found = [str(error)]
    nowhere = here.queries.undelivered()
    if nowhere:
        found.append(f"{nowhere} results go nowhere; `overread deliveries create --destination NAME --all` sends them")
    if wrong := care(here):
        found.append(wrong)
    behind = progress(here.trail.chain) if here.settings.audit.repository else None
    if behind and behind.failures:
        found.append(f"{behind.waiting} audit messages wait since {behind.since}: {behind.reason}")
    return found


@studies.command("list")
def list_studies(config: ConfigOption = None, limit: Limit = 50, as_json: JsonOption = False) -> None:
    """List studies, newest first, with the evidence of their completeness."""
    columns = ("study_instance_uid", "instances", "verdict", "evidence", "refusal", "jobs")
    table("studies", house(config).queries.studies(limit), columns, as_json=as_json)


@studies.command("show")
def show_study(study: str, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show one study with its jobs, and every step from its first instance to the destinations' last word."""
    from daemon.cli.timeline import timeline

    here = house(config)
    found = here.queries.study(study)
    if found is None:
        missing(f"no study {study}; see `overread studies list`")
    related = here.queries.jobs(study=study)
    events = {job.id: here.queries.events(job.id) for job in related}
    steps = timeline(here, study, [job.id for job in related])
    if as_json:
        emit({"study": plain(found), "jobs": plain(related), "events": plain(events), "timeline": plain(steps)})
        return
    table("study", [found], ("study_instance_uid", "instances", "conflicts", "verdict", "evidence"), as_json=False)
    for job in related:
        typer.echo(
            " ".join(filter(None, (f"job {job.id}", job.bundle, job.version, job.refusal, job.state, job.detail)))
        )
    table("timeline", steps, ("at", "after", "line", "what", "detail"), as_json=False)


@jobs.command("list")
def list_jobs(
    config: ConfigOption = None,
    state: Annotated[str | None, typer.Option(help="Only jobs in this state, such as FAILED.")] = None,
    limit: Limit = 50,
    as_json: JsonOption = False,
) -> None:
    """List jobs, newest first; one with a refusal reports it instead of reading."""
    from daemon.domain.job import JobState

    columns = ("id", "bundle", "version", "refusal", "state", "reason", "detail", "attempts", "created_at")
    rows = house(config).queries.jobs(state=one_of(JobState, state), limit=limit)
    table("jobs", rows, (*columns, "study_instance_uid"), as_json=as_json)


@jobs.command("show")
def show_job(job: int, config: ConfigOption = None) -> None:
    """Show one job whole, as JSON."""
    here = house(config)
    found = here.queries.job(job)
    if found is None:
        missing(f"no job {job}; see `overread jobs list`")
    from daemon.ledger.seconds import Seconds

    seconds = Seconds(here.engine).of_jobs([job])
    emit({"job": plain(found), "events": plain(here.queries.events(job)), "second_reads": plain(seconds)})


@jobs.command("compare")
def compare_job(
    job: int,
    model: Annotated[str, typer.Argument(help="The bundle's name.")],
    config: ConfigOption = None,
    version: Annotated[str | None, typer.Option(help="Its version; left out, the newest.")] = None,
) -> None:
    """Have a worker read what a job read with another bundle too, for comparison alone; `jobs show` has what it finds.

    It is read when nothing else waits, and nothing of it is sent anywhere.
    """
    from daemon.ledger.seconds import Seconds
    from daemon.second import candidates

    here = house(config)
    refs = [
        one.ref for one in candidates(here.settings) if one.ref.name == model and version in (None, one.ref.version)
    ]
    if not refs:
        missing(f"no bundle {model} {version or ''}; see `overread models list`")
    Seconds(here.engine).ask(job, refs[-1], here.reporter("jobs compare").person.user_id, here.clock.now())
    note_action(here, "jobs compare", f"jobs/{job}")
    typer.echo(f"job {job} is read with {model} {refs[-1].version} when nothing else waits")


@jobs.command("retry")
def retry_job(job: int, config: ConfigOption = None) -> None:
    """Schedule a failed or cancelled job again."""
    here = house(config)
    if here.queries.job(job) is None:
        missing(f"no job {job}; see `overread jobs list`")
    here.jobs.retry(job, here.clock.now())
    note_action(here, "jobs retry", f"jobs/{job}")
    typer.echo(f"job {job} is SCHEDULED")


@jobs.command("cancel")
def cancel_job(job: int, config: ConfigOption = None) -> None:
    """Cancel a job that has not begun."""
    here = house(config)
    if here.queries.job(job) is None:
        missing(f"no job {job}; see `overread jobs list`")
    here.jobs.cancel(job, here.clock.now())
    note_action(here, "jobs cancel", f"jobs/{job}")
    typer.echo(f"job {job} is CANCELED")


def missing(message: str) -> NoReturn:
    """Say that something is not there, and exit 1."""
    typer.secho(f"overread: {message}", err=True, fg=typer.colors.RED)
    raise typer.Exit(EXIT_ERROR)
