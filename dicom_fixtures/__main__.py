"""`python -m dicom_fixtures make brain-mri|petct --out DIR --seed N --lesions K`, and `spoil FAULT FOLDER`."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dicom_fixtures.broken import FAULTS
from dicom_fixtures.multiframe import make_multiframe
from dicom_fixtures.planes import Layout, Orientation
from dicom_fixtures.studies import StudyRequest, StudyTruth, make_brain_mri, make_petct

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
    spacing: Annotated[str, typer.Option(help="Slice, row, column in mm, as 4,1,1; MR or PET.")] = "",
    descending: Annotated[bool, typer.Option(help="Number instances from the head down.")] = False,  # noqa: FBT002
    salt: Annotated[str, typer.Option(help="Other UIDs and patient for the same pictures.")] = "",
    accession: Annotated[str, typer.Option(help="Accession Number.")] = "FIXTURE",
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,  # noqa: FBT002
) -> None:
    """Write one study and its truth."""
    request = StudyRequest(
        seed=seed,
        lesions=lesions,
        contrasts=tuple(contrasts.split(",")),
        spacing=_spacing(spacing) if spacing else None,
        layout=Layout(orientation=orientation),
        descending=descending,
        salt=salt,
        accession=accession,
    )
    truth = make_brain_mri(request, out) if kind is Kind.BRAIN_MRI else make_petct(request, out)
    typer.echo(json.dumps(_document(truth)) if as_json else _words(truth))


@app.command()
def spoil(fault: str, folder: Path) -> None:
    """Spoil the series in FOLDER in place: a fault of `dicom_fixtures.broken`, or make-multiframe."""
    if fault == "make-multiframe":
        make_multiframe(folder)
    elif fault in FAULTS:
        FAULTS[fault](folder)
    else:
        raise typer.BadParameter(f"{fault}: use make-multiframe or one of {', '.join(FAULTS)}")


def _spacing(text: str) -> tuple[float, float, float]:
    try:
        slices, rows, columns = (float(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: give three numbers, as 4,1,1", param_hint="--spacing") from error
    if min(slices, rows, columns) <= 0:
        raise typer.BadParameter(f"{text!r}: spacing is above 0 mm", param_hint="--spacing")
    return slices, rows, columns


def _document(truth: StudyTruth) -> dict[str, object]:
    return {
        "study_instance_uid": truth.study_instance_uid,
        "folder": str(truth.folder),
        "series": {name: len(paths) for name, paths in truth.series.items()},
        "series_instance_uids": truth.series_uids,
        "mask": str(truth.mask),
        "lesions": str(truth.lesions),
    }


def _words(truth: StudyTruth) -> str:
    series = ", ".join(f"{name} ({len(paths)} instances)" for name, paths in truth.series.items())
    return f"{series} in {truth.folder}; truth: {truth.mask}, {truth.lesions}"


if __name__ == "__main__":
    app()
