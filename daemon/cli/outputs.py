"""outputs: result objects, and a picture of one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from daemon.cli.ledger import Limit, house, missing
from daemon.cli.output import ConfigOption, JsonOption, table

if TYPE_CHECKING:
    from daemon.bootstrap import House
    from daemon.imaging.read import SourceSeries
    from daemon.ledger.queries import OutputView

app = typer.Typer(help="Result objects.", no_args_is_help=True)


@app.command("list")
def list_outputs(config: ConfigOption = None, limit: Limit = 50, as_json: JsonOption = False) -> None:
    """List result objects, newest first, with their deliveries."""
    columns = ("id", "job_id", "kind", "size", "deliveries", "sop_instance_uid")
    table("outputs", house(config).queries.outputs(limit=limit), columns, as_json=as_json)


@app.command()
def show(
    output: Annotated[int, typer.Argument(help="Its id, of `overread outputs list`.")],
    config: ConfigOption = None,
    picture: Annotated[Path | None, typer.Option(help="Draw what it shows into this PNG file.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show one result object; with --picture also draw a SEG on its source, a key image or a map.

    The source's own pixels may name the patient: keep the picture as you keep those.
    """
    here = house(config)
    found = here.queries.output(output)
    if found is None:
        missing(f"no output {output}; see `overread outputs list`")
    table("output", [found], ("id", "job_id", "kind", "size", "deliveries", "sop_instance_uid"), as_json=as_json)
    if picture:
        said = _draw(here, found, picture)
        typer.echo(f"wrote {picture}: {said}", err=as_json)


def _draw(here: "House", found: "OutputView", path: Path) -> str:
    """Write the picture, readable by its owner alone; return what it shows."""
    import os

    import pydicom
    from PIL import Image

    from daemon.cli.audit import note_action
    from daemon.results.glance import glance, source_of

    file = here.spool.path(found.digest)
    if not here.spool.sound(found.digest):
        missing(f"the file of output {found.id} is freed or damaged; look at it in the PACS")
    made = pydicom.dcmread(file)
    shown = glance(made, _source(here, found.job_id, source_of(made)))
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as target:
        Image.fromarray(shown.pixels).save(target, format="PNG")
    note_action(here, "outputs show --picture", f"outputs/{found.id}")
    return shown.title


def _source(here: "House", job: int, series: str) -> "SourceSeries | None":
    """Return the series of a job's input; None where the object needs none, or it is no longer there."""
    from daemon.imaging.read import read_series

    digests = here.files.of_job(job, series)
    if not digests or not all(here.spool.sound(digest) for digest in digests):
        return None
    return read_series([here.spool.path(digest) for digest in digests])
