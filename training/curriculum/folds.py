"""K-fold cross-validation by patient, and ensembles of seeds."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from lightning_fabric import Fabric
from sklearn.model_selection import StratifiedGroupKFold

from training.curriculum.stages import train
from training.curriculum.store import Cohort, patient_of
from training.curriculum.validate import Reading, Tuning, figures, read
from training.data.sample import Sample
from training.settings import Settings

TUNE_FOLDS = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Fold:
    """A fold: what to learn from, what tells when to stop, and what is only measured."""

    cohort: Cohort
    held_out: Sequence[Sample]


def folds(samples: Sequence[Sample], count: int, seed: int) -> Iterator[Fold]:
    """Yield `count` folds: patients stay together, sources and tumours are spread evenly.

    Of what is not held out, a fifth tells when to stop: the held-out fold has no say in its own figures.

    Raises:
        ValueError: there are fewer patients than folds, or fewer than two folds.
    """
    patients = {patient_of(s) for s in samples}
    if count < 2 or len(patients) < count + 1:
        raise ValueError(f"{count} folds of {len(patients)} patients cannot be made; ask for 2 to {len(patients) - 1}")
    for learn, held in split(samples, count, seed):
        rest = [samples[i] for i in learn]
        inner = min(TUNE_FOLDS, len({patient_of(s) for s in rest}))
        train_on, tune_on = next(split(rest, inner, seed))
        held_out = [samples[i] for i in held]
        cohort = Cohort(
            train=[rest[i] for i in train_on],
            tune=[rest[i] for i in tune_on],
            measured=frozenset(patient_of(s) for s in held_out),
        )
        yield Fold(cohort=cohort, held_out=held_out)


def split(samples: Sequence[Sample], count: int, seed: int) -> Iterator[tuple[list[int], list[int]]]:
    """Yield which samples to learn from and which are held out, `count` times."""
    kinds = [f"{s.source} {s.tumour}" for s in samples]
    # A kind rarer than the folds cannot be spread over them; it joins the commonest.
    commonest = max(kinds, key=kinds.count)
    strata = [kind if kinds.count(kind) >= count else commonest for kind in kinds]
    groups = [patient_of(s) for s in samples]
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed % 2**32)
    for learn, held in splitter.split(np.zeros(len(samples)), strata, groups):
        yield learn.tolist(), held.tolist()


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Figures of each fold or member and, of an ensemble, of all members together."""

    each: tuple[Tuning, ...]
    together: Tuning | None = None

    def spread(self, name: str) -> tuple[float, float]:
        """Return the mean and standard deviation of a figure over those that have it; NaN without any."""
        known = [v for v in (getattr(t, name) for t in self.each) if not np.isnan(v)]
        return (float(np.mean(known)), float(np.std(known))) if known else (np.nan, np.nan)

    def save(self, path: Path) -> None:
        """Write the figures as JSON; what is unknown is null."""
        document = {"each": [_known(t) for t in self.each], "together": self.together and _known(self.together)}
        path.write_text(json.dumps(document, indent=1), encoding="utf-8")


def cross_validate(settings: Settings, samples: Sequence[Sample], out: Path, count: int, fabric: Fabric) -> Summary:
    """Train and measure every fold in `out`/fold-N; write `out`/kfold.json. A stopped run goes on where it was."""
    found = []
    for i, fold in enumerate(folds(samples, count, settings.seed)):
        net = train(settings, fold.cohort, out / f"fold-{i + 1}", fabric)
        found.append(figures(read(fabric, net, fold.held_out, settings), fold.held_out, settings))
    return _written(Summary(each=tuple(found)), out / "kfold.json", fabric)


def ensemble(settings: Settings, cohort: Cohort, out: Path, members: int, fabric: Fabric) -> Summary:
    """Train `members` seeds in `out`/member-N; write their tuning figures, and those of their mean, as ensemble.json.

    Tumour logits and risks are averaged. Outlines are not averaged here, so together there is no Dice.
    """
    readings = []
    for i in range(members):
        net = train(settings.changed({"seed": settings.seed + i}), cohort, out / f"member-{i + 1}", fabric)
        readings.append(read(fabric, net, cohort.tune, settings))
    mean = Reading(
        dice=np.full(len(cohort.tune), np.nan),
        logit=np.mean([r.logit for r in readings], axis=0),
        risk=np.mean([r.risk for r in readings], axis=0),
    )
    tune: Callable[[Reading], Tuning] = lambda reading: figures(reading, cohort.tune, settings)  # noqa: E731
    summary = Summary(each=tuple(tune(r) for r in readings), together=tune(mean))
    return _written(summary, out / "ensemble.json", fabric)


def _written(summary: Summary, path: Path, fabric: Fabric) -> Summary:
    if fabric.is_global_zero:
        summary.save(path)
    return summary


def _known(tuning: Tuning) -> dict[str, float | None]:
    return {name: None if np.isnan(value) else value for name, value in asdict(tuning).items()}
