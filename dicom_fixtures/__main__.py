"""`python -m dicom_fixtures make brain-mri|petct --out DIR --seed N --lesions K`."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dicom_fixtures.planes import Layout, Orientation
from dicom_fixtures.studies import StudyRequest, make_brain_mri, make_petct

app = typer.Typer(help="Synthetic DICOM studies with known truth.", no_args_is_help=True)


class Kind(StrEnum):
    """What to make."""

    BRAIN_MRI = "brain-mri"
    PETCT = "petct"


@app.callback()
def main() -> None:
    """Make synthetic DICOM studies with known truth."""


@app.command()
def make(
    kind: Kind,
    out: Annotated[Path, typer.Option(help="Gets dicom/ and truth/.")],
    seed: Annotated[int, typer.Option(help="The same seed gives the same study.")] = 1,
    lesions: Annotated[int, typer.Option(min=0, max=8, help="0 makes a normal study.")] = 1,
    contrasts: Annotated[str, typer.Option(help="MR: of FLAIR,T2,T1,T1C.")] = "FLAIR",
    orientation: Annotated[Orientation, typer.Option()] = Orientation.AXIAL,
) -> None:
    """Write one study and its truth."""
    request = StudyRequest(
        seed=seed, lesions=lesions, contrasts=tuple(contrasts.split(",")), layout=Layout(orientation=orientation)
    )
    truth = make_brain_mri(request, out) if kind is Kind.BRAIN_MRI else make_petct(request, out)
    counts = {name: len(paths) for name, paths in truth.series.items()}
    typer.echo(json.dumps({"study_instance_uid": truth.study_instance_uid, "series": counts, "mask": str(truth.mask)}))


app()
