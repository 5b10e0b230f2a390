"""Caches any layout's studies as samples, and goes on where it stopped."""

import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import SimpleITK as sitk
from pydantic import TypeAdapter
from rich.console import Console
from rich.progress import track

from daemon.domain.model_bundle import Recipe
from daemon.errors import OverreadError
from training.data.readers.study import Request, Study, read
from training.data.splits import SAMPLES, Facts, facts_of, sample_files

RECIPE = "recipe.json"
OPTIONS = "options.json"
FAILURES = "failures.json"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A study that could not be read, and why."""

    name: str
    patient: str
    cause: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """What became of the studies: samples made now, samples that were there, failures."""

    made: int
    kept: int
    failures: tuple[Failure, ...]


def prepare(studies: Sequence[Study], request: Request, folder: Path, workers: int = 1) -> Report:
    """Read every study that `folder` does not hold yet into `folder`/samples; the failures are also written there.

    Args:
        studies: as a layout lists them.
        request: how they are prepared; a folder holds samples of one recipe, and of each source those of one choice of
            labels, region and field.
        folder: gets `samples/`, `recipe.json`, `options.json` and, where a study failed, `failures.json`.
        workers: processes that read at once.

    Raises:
        ValueError: the folder was prepared with another recipe or with other options, or holds a sample of the same
            name of another source, of another patient or with another follow-up.
    """
    _claim(folder, request.recipe)
    known = {path.stem: facts_of(path) for path in sample_files(folder)}
    for study in studies:
        if study.name in known:
            _refuse_other(study, known[study.name], folder)
    _choose(folder, request, {study.source for study in studies}, {facts.source for facts in known.values()})
    missing = [study for study in studies if study.name not in known]
    results = _outcomes(request.recipe, folder / SAMPLES, missing, workers)
    outcomes = list(track(results, total=len(missing), description="prepare", console=Console(stderr=True)))
    failures = tuple(failure for failure in outcomes if failure is not None)
    _note(folder / FAILURES, (study.name for study in studies), failures)
    return Report(made=len(missing) - len(failures), kept=len(studies) - len(missing), failures=failures)


def _outcomes(recipe: Recipe, folder: Path, studies: Sequence[Study], workers: int) -> Iterator[Failure | None]:
    """Yield what became of each study, in order."""
    store = partial(_store, recipe, folder)
    if workers <= 1:
        yield from map(store, studies)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _single_thread) as pool:
        yield from pool.map(store, studies)


def _single_thread() -> None:
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


def _store(recipe: Recipe, folder: Path, study: Study) -> Failure | None:
    try:
        read(study, recipe).save(folder)
    except Exception as error:  # noqa: BLE001 - one patient's files, whatever is wrong with them, do not stop the rest
        return Failure(name=study.name, patient=study.patient, cause=cause_of(error))
    return None


def cause_of(error: Exception) -> str:
    """Return in one line why a study could not be read."""
    lines = str(error).strip().splitlines() or [""]
    return lines[-1] if isinstance(error, ValueError | OverreadError) else f"{type(error).__name__}: {lines[-1]}"


def _claim(folder: Path, recipe: Recipe) -> None:
    path = folder / RECIPE
    if path.exists():
        if TypeAdapter(Recipe).validate_json(path.read_bytes()) != recipe:
            raise ValueError(f"{folder} was prepared with another recipe; choose another --out, or remove it")
        return
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(recipe), indent=1) + "\n", encoding="utf-8")


def _refuse_other(study: Study, cached: Facts, folder: Path) -> None:
    """Pass, or say in what a cached sample is not the one that the study would become."""
    told = study.follow_up
    for what, was, wanted in (
        ("source", cached.source, study.source),
        ("patient", cached.patient, study.patient or study.name),
        ("follow-up", (cached.time_days, cached.event), (told.time_days, told.event)),
        ("clinical numbers", dict(cached.covariates), dict(told.covariates)),
    ):
        if was != wanted:
            raise ValueError(
                f"{folder} holds {study.name} of {what} {was!r} already, which is not {wanted!r}; choose another --out"
            )


def _choose(folder: Path, request: Request, sources: set[str], cached: set[str]) -> None:
    """Keep with which options the sources are prepared, or check it of those that have samples."""
    path = folder / OPTIONS
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    chosen = {"label": sorted(request.labels), "region": request.region, "field_mm": request.field_mm}
    for source in sorted(sources & cached):
        was = kept.get(source, dict.fromkeys(chosen, "unknown"))
        other = [f"{name} {was[name]!r}, not {value!r}" for name, value in chosen.items() if was[name] != value]
        if other:
            raise ValueError(
                f"{folder} holds samples of source {source!r} made with {'; '.join(other)}: give the options that they "
                "were made with, or choose another --out"
            )
    path.write_text(json.dumps({**kept, **dict.fromkeys(sorted(sources), chosen)}, indent=1) + "\n", encoding="utf-8")


def _note(path: Path, tried: Iterable[str], failures: Sequence[Failure]) -> None:
    """Keep the failures of other folders that were prepared into the same one."""
    retried = set(tried)
    former = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    noted = [failure for failure in former if failure["name"] not in retried] + [asdict(f) for f in failures]
    path.unlink(missing_ok=True)
    if noted:
        path.write_text(json.dumps(noted, indent=1) + "\n", encoding="utf-8")
