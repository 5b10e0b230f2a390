"""Tables of follow-up and clinical numbers, by the column names that public data uses."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

PATIENT = ("patient", "patientid", "subject", "subjectid", "id", "case", "caseid")
TIME = (
    "timedays",
    "survivaldays",
    "survival",
    "days",
    "rfs",
    "rfsdays",
    "os",
    "osdays",
    "pfs",
    "pfsdays",
    "progressionfreesurvival",
)
EVENT = ("event", "death", "dead", "died", "deceased", "relapse", "progression", "recurrence", "osevent", "rfsevent")
_BRATS_ID = re.compile(r"brats(20)?\d\d(subject)?id")
# Censored patients of BraTS 2020 read "ALIVE (361 days later)".
_ALIVE = re.compile(r"alive\D*(\d+(?:\.\d+)?)", re.IGNORECASE)
_NOT_CLINICAL = {"task1", "task2", "centerid"}


@dataclass(frozen=True, kw_only=True)
class FollowUp:
    """A patient's survival (`event` 1 happened, 0 censored at `time_days`) and clinical numbers."""

    time_days: float | None = None
    event: int | None = None
    covariates: Mapping[str, float] = field(default_factory=dict)


def rows_of(path: Path) -> Any:  # noqa: ANN401 - a pandas table
    """Return a comma, semicolon or tab separated table, every value as text.

    Raises:
        ValueError: it is empty, or no such table.
    """
    with path.open(encoding="utf-8-sig") as file:
        head = file.readline()
    separator = max(",;\t", key=head.count)
    return pd.read_csv(path, sep=separator, dtype=str, skipinitialspace=True, encoding="utf-8-sig")


def read(path: Path, *, all_died: bool = False) -> dict[str, FollowUp]:
    """Return what the table at `path` says of each patient.

    Columns are known by name, whatever their case and punctuation: the patient, a time in days, an event; age, sex and
    every other column of numbers become covariates. Text such as "058Y" counts as its number.

    Args:
        path: comma, semicolon or tab separated.
        all_died: a patient with a time and no column of events died then (BraTS).

    Raises:
        ValueError: no column names the patient; a time has no event; an event is neither 0 nor 1, or a time no number
            above 0; two rows contradict each other.
    """
    table = rows_of(path)
    names = {re.sub(r"[\W_]", "", str(column).lower()): str(column) for column in table.columns}
    patient = next((names[n] for n in names if n in PATIENT or _BRATS_ID.fullmatch(n)), None)
    if patient is None:
        raise ValueError(f"{path} has no column of patients; call one of {', '.join(table.columns)} 'patient'")
    time, event = (next((names[n] for n in wanted if n in names), None) for wanted in (TIME, EVENT))
    if time and not event and not all_died:
        raise ValueError(f"{path} has times in {time!r} and no events; add a column 'event' (1 happened, 0 censored)")
    skipped = {patient, time, event, *(names[n] for n in names if n in _NOT_CLINICAL)}
    others = [column for column in table.columns if column not in skipped]
    found = {}
    for name, rows in table.groupby(patient):
        row = {column: _single(rows[column], f"{path}, patient {name}, {column}") for column in (time, event) if column}
        told = (row[time] if time else None, row[event] if event else None)
        days, happened = _outcome(*told, all_died=all_died, where=f"{path}, patient {name}")
        covariates = dict(_clinical((column, rows[column].dropna()) for column in others))
        found[str(name).strip()] = FollowUp(time_days=days, event=happened, covariates=covariates)
    return found


def merge(tables: Sequence[Mapping[str, FollowUp]]) -> dict[str, FollowUp]:
    """Return one table of several; where two tell of a patient's survival the last one counts."""
    merged: dict[str, FollowUp] = {}
    for table in tables:
        for name, new in table.items():
            old = merged.get(name, FollowUp())
            told = new if new.time_days is not None else old
            covariates = {**old.covariates, **new.covariates}
            merged[name] = FollowUp(time_days=told.time_days, event=told.event, covariates=covariates)
    return merged


def of_patient(path: Path | None, patients: Iterable[str]) -> dict[str, FollowUp]:
    """Return the table that a user names, empty where he names none.

    Raises:
        ValueError: it has no column of times, or knows none of `patients`.
    """
    if path is None:
        return {}
    if not path.is_file():
        raise ValueError(f"the table of follow-up {path} does not exist")
    table = read(path)
    if all(row.time_days is None for row in table.values()):
        raise ValueError(f"{path} tells no survival; call its columns 'time_days' and 'event'")
    wanted = set(patients)
    if not wanted & set(table):
        raise ValueError(
            f"{path} knows none of the patients in the folder: it has {_few(table)}, the folder {_few(wanted)}"
        )
    return table


def _few(names: Iterable[str]) -> str:
    some = sorted(names)
    return ", ".join(some[:3]) + (", ..." if len(some) > 3 else "")


def _single(column: Any, where: str) -> str | None:  # noqa: ANN401 - a pandas series
    values = column.dropna().unique()
    if len(values) > 1:
        raise ValueError(f"{where}: rows contradict each other ({', '.join(values)}); leave one")
    return str(values[0]).strip() if len(values) else None


def _outcome(time: str | None, event: str | None, *, all_died: bool, where: str) -> tuple[float | None, int | None]:
    alive = _ALIVE.search(time or "")
    days = float(alive.group(1)) if alive else _number(time)
    happened = 0.0 if alive else _number(event)
    if days is None and time:
        raise ValueError(f"{where}: the time is {time!r}; it must be a number of days such as 812.5")
    if days is None:
        return None, None
    if happened is None and all_died and event is None:
        happened = 1.0
    if happened not in {0.0, 1.0}:
        raise ValueError(f"{where}: the event is {event!r}; it must be 1 (happened) or 0 (censored)")
    if days <= 0:
        raise ValueError(f"{where}: {days:g} days of follow-up; the time must be above 0")
    return days, int(happened)


def _clinical(columns: Iterable[tuple[str, Any]]) -> Iterable[tuple[str, float]]:
    renamed = {"age": "age_years", "weight": "weight_kg"}
    for column, values in columns:
        if not len(values):
            continue
        text = str(values.iloc[0]).strip()
        name = re.sub(r"\W+", "_", re.sub(r"\(.*\)|,.*", "", column.strip().lower())).strip("_")
        number = _number(text)
        if name in {"sex", "gender"} and text[:1].upper() in {"M", "F"}:
            yield "male", float(text[:1].upper() == "M")
        elif number is not None:
            yield renamed.get(name, name), number


def _number(text: str | None) -> float | None:
    plain = re.fullmatch(r"\s*([+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)Y?\s*", text or "")
    return float(plain.group(1)) if plain else None
