"""process: a folder of DICOM files to result objects, without network and without configuration."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from daemon.cli.output import EXIT_NOT_PROCESSED, JsonOption, emit, screen

if TYPE_CHECKING:
    from daemon.domain.output import OutputKind
    from daemon.imaging.studies import StudyFiles
    from daemon.inference.reader import BundleReader
    from daemon.services.analyse import Analysis


@dataclass(kw_only=True)
class JobReport:
    """What `--json` prints for a job."""

    study_instance_uid: str
    state: str
    reason: str = ""
    detail: str = ""
    model: str = ""
    answer: str = ""
    tumour_probability: dict[str, float] = field(default_factory=dict)
    survival_risk: dict[str, Any] | None = field(default_factory=dict)
    survival: dict[str, dict[str, float]] = field(default_factory=dict)
    uncertainty: dict[str, Any] = field(default_factory=dict)
    lesions: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[dict[str, str]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def process(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files or folders.", exists=True)],
    out: Annotated[Path, typer.Option(help="Gets SEG and SR files, and maps with --maps.")],
    model: Annotated[str | None, typer.Option(help="Only this model.")] = None,
    models: Annotated[Path | None, typer.Option(help="Folder of model bundles.")] = None,
    passes: Annotated[int | None, typer.Option(min=2, help="MC-dropout passes.")] = None,
    output: Annotated[list[str] | None, typer.Option(help="A kind beside SEG and SR; repeatable.")] = None,
    maps: Annotated[bool, typer.Option("--maps", help="Also write the voxel maps as npz.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Read a folder of DICOM files and write SEG and SR; exit 3 where no study could be processed."""
    from daemon.config import bundled_models
    from daemon.imaging.studies import grouped
    from daemon.inference.bundle import needed
    from daemon.inference.reader import BundleReader

    target = _Target(out=out, maps=maps, kinds=_kinds(output or []))
    out.mkdir(parents=True, exist_ok=True)
    built = BundleReader(needed(models or bundled_models()), threads=2, passes=passes)
    if model and model not in {b.ref.name for b in built.bundles()}:
        raise typer.BadParameter(f"no model {model}; see `overread models list`")
    studies, unreadable = grouped(paths)
    reports = [r for found in studies for r in _study(found, built, model, target)]
    if not reports:
        reports = [
            JobReport(study_instance_uid="", state="FAILED", reason="no-dicom", detail="no DICOM instance found")
        ]
    if as_json:
        emit({"jobs": [asdict(r) for r in reports], "unreadable_files": unreadable})
    else:
        _print(reports, unreadable)
    if all(r.state == "FAILED" for r in reports):
        raise typer.Exit(EXIT_NOT_PROCESSED)


@dataclass(frozen=True, kw_only=True)
class _Target:
    out: Path
    maps: bool
    kinds: "frozenset[OutputKind]"


def _kinds(names: list[str]) -> "frozenset[OutputKind]":
    from daemon.domain.output import OutputKind

    try:
        return frozenset(map(OutputKind.parse, names))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _study(study: "StudyFiles", built: "BundleReader", model: str | None, target: _Target) -> Iterator[JobReport]:
    from daemon.domain.selection import choose

    installed = {b.manifest.name: b for b in built.bundles() if model in (None, b.ref.name)}
    choice = choose(study.instances, [b.manifest for b in installed.values()])
    if choice.refusal:
        yield JobReport(
            study_instance_uid=study.uid,
            state="FAILED",
            reason=choice.refusal.reason.value,
            detail=choice.refusal.detail,
        )
    from daemon.domain.job import JobInput, job_key
    from daemon.errors import UnprocessableError
    from daemon.services.analyse import Task, analyse

    created_at = max(i.received_at for i in study.instances)
    for chosen in choice.chosen:
        bundle = installed[chosen.bundle]
        digests = tuple(sorted(i.digest for s in chosen.series.values() for i in s.instances))
        series = {role: s.series_instance_uid for role, s in chosen.series.items()}
        job_input = JobInput(study_instance_uid=study.uid, series=series, instance_digests=digests)
        report = JobReport(
            study_instance_uid=study.uid, state="COMPLETED", model=f"{bundle.ref.name} {bundle.ref.version}"
        )
        # Of this run alone: another has other dates in its objects, and may have had other passes.
        run = f"{bundle.ref.digest} at {created_at.isoformat()}"
        task = Task(
            job_key=job_key(job_input, run),
            study_instance_uid=study.uid,
            created_at=created_at,
            paths={role: study.paths(s) for role, s in chosen.series.items()},
            bundle=bundle,
            unread=chosen.unread,
            software_version=_version(),
            kinds=target.kinds,
        )
        try:
            _fill(report, analyse(task, built), target)
        except UnprocessableError as error:
            report.state, report.reason, report.detail = "FAILED", error.reason, str(error)
        yield report


def _version() -> str:
    from daemon import __version__

    return __version__


def _fill(report: JobReport, analysis: "Analysis", target: _Target) -> None:
    findings = analysis.reading.findings
    started = time.perf_counter()
    for made in analysis.made:
        path = target.out / f"{made.kind.value}_{made.dataset.SOPInstanceUID}.dcm"
        path.write_bytes(made.content)
        report.outputs.append({"type": made.kind.value, "path": str(path)})
    if target.maps:
        import numpy as np

        reading = analysis.reading
        path = target.out / f"maps_{report.model.split()[0]}_{report.study_instance_uid}.npz"
        np.savez_compressed(
            path, labels=reading.labels, probability=reading.probability, sd=reading.sd, entropy=reading.entropy
        )
        report.outputs.append({"type": "MAPS", "path": str(path)})
    report.answer = findings.answer.value
    report.tumour_probability = asdict(findings.tumour_probability)
    risk = findings.survival_risk
    report.survival_risk = asdict(risk) | {"class": findings.risk_class} if risk else None
    report.survival = {f"{years}y": asdict(estimate) for years, estimate in findings.survival.items()}
    report.uncertainty = {
        "score": findings.uncertainty.score,
        "flag": findings.uncertainty.flag,
        "reasons": [d.sentence for d in findings.uncertainty.doubts],
    }
    report.lesions = [asdict(lesion) for lesion in findings.lesions]
    report.seconds = analysis.seconds | {"write": time.perf_counter() - started}


def _print(reports: list[JobReport], unreadable: int) -> None:
    from rich.table import Table

    drawn = Table("model", "state", "answer", "probability", "risk", "lesions", "volume ml", "seconds")
    for r in reports:
        drawn.add_row(
            r.model,
            f"{r.state} {r.detail or r.reason}".strip(),
            r.answer,
            _estimate(r.tumour_probability),
            "not fitted" if r.survival_risk is None else _estimate(r.survival_risk),
            str(len(r.lesions)),
            ", ".join(f"{lesion['volume_ml']:.1f}" for lesion in r.lesions),
            f"{sum(r.seconds.values()):.1f}",
        )
    console = screen()
    console.print(drawn)
    for r in reports:
        for output in r.outputs:
            console.print(f"{output['type']:11} {output['path']}", soft_wrap=True)
    if unreadable:
        console.print(f"{unreadable} files are no DICOM instance and were left out")


def _estimate(value: dict[str, float]) -> str:
    return f"{value['mean']:.3f} ± {value['sd']:.3f}" if value else ""
