"""`python -m demo`: an MRI, a PET/CT and a normal study through the daemon into a PACS and back."""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import SimpleITK as sitk
import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from demo.pacs import AE_TITLE, Pacs, running
from demo.pictures import dice, draw, outline, series
from demo.ports import HOST, free_port, listens
from demo.programs import system_path
from dicom_fixtures.studies import StudyRequest, StudyTruth, make_brain_mri, make_petct

DEADLINE_SECONDS = 300.0
MODALITY = "MODALITY"
LOG = "daemon.log"
OVERREAD = [sys.executable, "-m", "daemon"]
# A pipe has no width; the summary wants one.
console = Console() if sys.stdout.isatty() else Console(width=150)


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study of the demo; a normal one gets a report alone."""

    name: str
    truth: StudyTruth
    reference: str
    expected: frozenset[str]


def main(
    out: Annotated[Path, typer.Option(help="Gets pictures, results and logs.")] = Path("demo-out"),
    seed: Annotated[int, typer.Option(help="Other seeds make other patients.")] = 11,
) -> None:
    """Run the demo; exit 1 where a result does not arrive."""
    if out.exists() and any(out.iterdir()) and not (out / LOG).exists():
        raise typer.BadParameter(f"{out} holds what no demo wrote: name another folder with --out")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="overread-demo-")))
        console.rule("studies")
        studies = _studies(work, seed)
        pacs_port, port = free_port(), free_port()
        pacs = stack.enter_context(running(work / "pacs", pacs_port, port))
        stack.enter_context(_daemon(work / "site", out / LOG, (port, pacs_port)))
        console.print(f"PACS: {pacs.name} on port {pacs_port}; overread on port {port}")
        console.rule("push, read, return")
        arrived = _push_and_wait(studies, pacs, port)
        rows = [_evaluate(study, pacs, out) for study in studies if study.name in arrived]
    _summary(rows, out)
    if len(arrived) < len(studies):
        console.print(f"[red]no result for {', '.join(s.name for s in studies if s.name not in arrived)}")
        raise typer.Exit(1)


def _studies(work: Path, seed: int) -> list[Study]:
    both, report = frozenset({"SEG", "SR"}), frozenset({"SR"})
    plans: list[tuple[str, Callable[[StudyRequest, Path], StudyTruth], int, str, frozenset[str]]] = [
        ("brain-mri", make_brain_mri, 1, "FLAIR", both),
        ("petct", make_petct, 2, "PET", both),
        ("brain-mri-normal", make_brain_mri, 0, "FLAIR", report),
    ]
    made = []
    for offset, (name, make, lesions, reference, expected) in enumerate(plans):
        truth = make(StudyRequest(seed=seed + offset, lesions=lesions), work / name)
        console.print(f"{name:18} {sum(map(len, truth.series.values())):4} instances, {lesions} lesions")
        made.append(Study(name=name, truth=truth, reference=reference, expected=expected))
    return made


@contextmanager
def _daemon(site: Path, log: Path, ports: tuple[int, int]) -> Iterator[None]:
    port, pacs_port = ports
    options = ["--port", str(port), "--allow", MODALITY, "--destination", f"pacs={AE_TITLE}@{HOST}:{pacs_port}"]
    subprocess.run([*OVERREAD, "init", str(site), *options], check=True, stdout=subprocess.DEVNULL)
    config = site / "overread.toml"
    config.write_text(config.read_text().replace("quiet_seconds = 30", "quiet_seconds = 3"), encoding="utf-8")
    with log.open("wb") as sink:
        process = subprocess.Popen([*OVERREAD, "serve", "--config", str(config)], stderr=sink)
    try:
        _wait(lambda: process.poll() is not None or listens(port), 60, "overread to listen")
        if process.poll() is not None:
            raise typer.BadParameter(f"overread did not start; see {log}")
        yield
    finally:
        process.terminate()
        process.wait(timeout=180)


def _push_and_wait(studies: list[Study], pacs: Pacs, port: int) -> set[str]:
    arrived: set[str] = set()
    _wait(lambda: listens(pacs.port), 60, "the PACS to listen")
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console) as progress:
        tasks = {}
        for study in studies:
            tasks[study.name] = progress.add_task(f"{study.name}: pushing", total=1)
            _push(study.truth.folder, port)
            progress.update(tasks[study.name], description=f"{study.name}: waiting for the PACS")
        deadline = time.monotonic() + DEADLINE_SECONDS
        while len(arrived) < len(studies) and time.monotonic() < deadline:
            for study in studies:
                here = set(pacs.instances(study.truth.study_instance_uid).values())
                if study.name not in arrived and here >= study.expected:
                    arrived.add(study.name)
                    words = " and ".join(sorted(here))
                    progress.update(tasks[study.name], description=f"{study.name}: {words} in the PACS", completed=1)
            time.sleep(0.5)
    return arrived


def _push(folder: Path, port: int) -> None:
    """C-STORE a folder, by DCMTK's storescu where it is installed, else by pynetdicom's."""
    storescu = shutil.which("storescu", path=system_path())
    titles = ("-aet", MODALITY, "-aec", "OVERREAD")
    if storescu:
        command = [storescu, *titles, "+sd", "+r", "-nh", "-R"]
    else:
        command = [sys.executable, "-m", "pynetdicom", "storescu", *titles, "-r"]
    subprocess.run([*command, HOST, str(port), str(folder)], check=True, capture_output=True)


def _evaluate(study: Study, pacs: Pacs, out: Path) -> dict[str, Any]:
    """Read results back from the PACS, compare with the truth, draw; maps come from the same reading again."""
    results = pacs.fetch(study.truth.study_instance_uid, out / study.name)
    image = sitk.ReadImage(str(study.truth.mask))
    truth = sitk.GetArrayFromImage(image) > 0
    found = outline(results.get("SEG"), image)
    command = [
        *OVERREAD,
        "process",
        str(study.truth.folder),
        "--out",
        str(out / study.name / "again"),
        "--maps",
        "--json",
    ]
    again = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["jobs"][0]
    maps = np.load(next(o["path"] for o in again["outputs"] if o["type"] == "MAPS"))
    probability = again["tumour_probability"]
    title = f"{study.name}: {again['answer']}, probability {probability['mean']:.3f} ± {probability['sd']:.3f}"
    voxels = series(study.truth.series[study.reference])
    draw(out / f"{study.name}.png", voxels, (found, truth, maps["entropy"]), title)
    return {"study": study.name, "dice": dice(found, truth), "objects": sorted(results), **again}


def _summary(rows: list[dict[str, Any]], out: Path) -> None:
    table = Table(
        "study", "answer", "probability", "risk", "uncertainty", "lesions ml", "in the PACS", "Dice", "seconds"
    )
    for row in rows:
        risk = row["survival_risk"]
        table.add_row(
            row["study"],
            row["answer"],
            f"{row['tumour_probability']['mean']:.3f} ± {row['tumour_probability']['sd']:.3f}",
            f"{risk['mean']:.2f} ({risk['class']})" if risk else "not fitted",
            f"{row['uncertainty']['score']:.2f}{' !' if row['uncertainty']['flag'] else ''}",
            ", ".join(f"{lesion['volume_ml']:.1f}" for lesion in row["lesions"]),
            " ".join(row["objects"]),
            f"{row['dice']:.3f}",
            f"{sum(row['seconds'].values()):.1f}",
        )
    console.print(table)
    console.print(f"pictures: {', '.join(str(p) for p in sorted(out.glob('*.png')))}", soft_wrap=True)


def _wait(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(0.05)


if __name__ == "__main__":
    typer.run(main)
