"""Which patient is for training, tuning or testing: dealt by strata, kept in `splits.json`, checked for leaks.

A prepared folder holds `samples/<split>/<name>.npz` and `splits.json`.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

SAMPLES = "samples"
TABLE = "splits.json"
SHARES: Mapping[str, float] = {"train": 0.7, "tune": 0.15, "test": 0.15}


class LeakError(ValueError):
    """A patient is in two splits, so that the model would be tested on whom it was trained on."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What dealing and caching need of a cached sample; `split` is empty where it has none yet."""

    path: Path
    split: str
    patient: str
    source: str
    tumour: int | None
    event: int | None
    time_days: float | None = None
    covariates: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Patients by split, and how they were dealt."""

    seed: int
    shares: Mapping[str, float]
    patients: Mapping[str, tuple[str, ...]]

    def by_patient(self) -> dict[str, str]:
        """Return patient -> split.

        Raises:
            LeakError: a patient is listed in two splits.
        """
        listed = [(patient, split) for split, patients in self.patients.items() for patient in patients]
        _refuse_leaks(listed, f"in {TABLE}; remove it from one of them")
        return dict(listed)

    def save(self, folder: Path) -> Path:
        """Write `splits.json` into `folder`, whole or not at all."""
        path = folder / TABLE
        partial = path.with_suffix(".part")
        document = {
            "seed": self.seed,
            "shares": dict(self.shares),
            "patients": {split: sorted(patients) for split, patients in self.patients.items()},
        }
        partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        partial.rename(path)
        return path

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `splits.json` of `folder`.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is no such table.
        """
        path = folder / TABLE
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            patients = {str(split): tuple(map(str, names)) for split, names in document["patients"].items()}
            return cls(seed=int(document["seed"]), shares=document["shares"], patients=patients)
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is no table of splits ({error}); remove it to deal anew") from error


def sample_files(folder: Path) -> Iterator[Path]:
    """Yield the cached samples of a prepared folder, those without a split too, by name."""
    yield from sorted(p for p in (folder / SAMPLES).rglob("*.npz") if not p.name.endswith(".part.npz"))


def facts_of(path: Path) -> Facts:
    """Return the facts of a cached sample without reading its image."""
    with np.load(path) as stored:
        facts = json.loads(str(stored["facts"]))
    split = path.parent.name if path.parent.parent.name == SAMPLES else ""
    return Facts(
        path=path,
        split=split,
        patient=facts["patient"] or path.stem,
        source=facts["source"],
        tumour=facts["tumour"],
        event=facts["event"],
        time_days=facts["time_days"],
        covariates=facts["covariates"],
    )


def deal(facts: Iterable[Facts], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """Return patient -> split, each split holding its share of every stratum as nearly as whole patients allow.

    A patient's stratum is whether any sample shows tumour, its sources, and whether the event happened. Equal shares
    named "0", "1", ... make the folds of a cross-validation.

    Raises:
        ValueError: as `check_shares` says.
    """
    check_shares(shares)
    strata: dict[tuple[object, ...], list[str]] = {}
    for patient, own in _by_patient(facts).items():
        tumour = max(-1 if fact.tumour is None else fact.tumour for fact in own)
        event = max(-1 if fact.event is None else fact.event for fact in own)
        stratum = (tumour, tuple(sorted({fact.source for fact in own})), event)
        strata.setdefault(stratum, []).append(patient)
    rng = np.random.Generator(np.random.Philox(seed))
    order = [str(p) for _, patients in sorted(strata.items()) for p in rng.permutation(sorted(patients))]
    dealt: dict[str, str] = {}
    counts = dict.fromkeys(shares, 0)
    for place, patient in enumerate(order, start=1):
        split = max(shares, key=lambda name: shares[name] * place - counts[name])
        counts[split] += 1
        dealt[patient] = split
    return dealt


def check_shares(shares: Mapping[str, float]) -> None:
    """Pass, or say what is wrong with the shares.

    Raises:
        ValueError: one is below 0, or they do not add up to 1.
    """
    if min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise ValueError(f"the shares {dict(shares)} must be at least 0 and add up to 1")


def check(facts: Iterable[Facts]) -> None:
    """Pass, or name the patients that are in two splits.

    Raises:
        LeakError: there are some.
    """
    placed = {(fact.patient, fact.split) for fact in facts if fact.split}
    _refuse_leaks(sorted(placed), f"as folders of {SAMPLES}/ tell; move all samples of a patient into one")


def arrange(folder: Path, shares: Mapping[str, float], seed: int) -> Splits:
    """Move the samples of a prepared folder into `samples/<split>/` and write `splits.json`.

    Whoever is in `splits.json`, or already lies in a split's folder, stays there; only new patients are dealt. So
    data can be added later, and a table written by hand is obeyed.

    Raises:
        LeakError: a patient is in two splits, in the table or on disk.
    """
    facts = [facts_of(path) for path in sample_files(folder)]
    check(facts)
    kept = {fact.patient: fact.split for fact in facts if fact.split}
    if (folder / TABLE).exists():
        kept |= Splits.load(folder).by_patient()
    new = deal([fact for fact in facts if fact.patient not in kept], shares, seed)
    placed = {**kept, **new}
    splits = list(dict.fromkeys((*shares, *placed.values())))
    patients = {split: tuple(p for p, own in placed.items() if own == split) for split in splits}
    table = Splits(seed=seed, shares=shares, patients=patients)
    table.save(folder)
    for fact in facts:
        target = folder / SAMPLES / placed[fact.patient] / fact.path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        fact.path.replace(target)
    return table


def _by_patient(facts: Iterable[Facts]) -> dict[str, list[Facts]]:
    found: dict[str, list[Facts]] = {}
    for fact in facts:
        found.setdefault(fact.patient, []).append(fact)
    return found


def _refuse_leaks(pairs: Iterable[tuple[str, str]], mend: str) -> None:
    found = list(pairs)
    counts = Counter(patient for patient, _ in found)
    leaks = [patient for patient, count in counts.items() if count > 1]
    if leaks:
        places = ", ".join(split for patient, split in found if patient == leaks[0])
        others = f", and so are {', '.join(leaks[1:6])}" if len(leaks) > 1 else ""
        raise LeakError(f"patient {leaks[0]} is in the splits {places}{others}, {mend}")
