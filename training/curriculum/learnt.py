"""Whom a run learnt from: kept in its folder, so that weights are never taken for those of other patients."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from training.curriculum.store import Cohort, patient_of
from training.data.sample import Sample
from training.provenance import Seen

FILE = "patients.json"
MEND = "give another --out (of `run`, another bundle.version), or remove it to begin anew"


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """A run's samples by what they were for, in order of patient.

    `before` are those that the weights it began with had learnt from, `before_tune` those that told when to stop.
    """

    train: tuple[Seen, ...]
    tune: tuple[Seen, ...]
    adapt: tuple[Seen, ...] = ()
    before: tuple[Seen, ...] = ()
    before_tune: tuple[Seen, ...] = ()

    @classmethod
    def of(cls, cohort: Cohort, start: str) -> "Learnt":
        """Return whom a run learns from that begins with the warm-up of the run in `start`, unless that is empty.

        Raises:
            FileNotFoundError: `start` does not say whom it learnt from.
            ValueError: it learnt from patients that `cohort` tunes with or measures.
        """
        earlier = cls.load(Path(start)) if start else cls(train=(), tune=())
        mine = cls(
            train=_seen(cohort.train),
            tune=_seen(cohort.tune),
            adapt=_seen(cohort.adapt),
            before=tuple(sorted({*earlier.train, *earlier.before})),
            before_tune=tuple(sorted({*earlier.tune, *earlier.before_tune})),
        )
        unseen = cohort.measured | {patient_of(sample) for sample in cohort.tune}
        leaks = (_patients(mine.before) & unseen) | (_patients(mine.before_tune) & cohort.measured)
        if leaks:
            raise ValueError(
                f"{start}, which this run begins with, has seen {len(leaks)} patients that are to tune or test it, "
                f"such as {min(leaks)}; keep them in train/, or begin without --start"
            )
        return mine

    @classmethod
    def load(cls, run: Path) -> "Learnt":
        """Return whom the run in `run` learnt from.

        Raises:
            FileNotFoundError: it does not say.
            ValueError: what it says cannot be read.
        """
        path = run / FILE
        if not path.is_file():
            raise FileNotFoundError(f"no {path}, so nobody knows whom that run learnt from; train it anew")
        try:
            return TypeAdapter(cls).validate_json(path.read_bytes())
        except ValidationError as error:
            raise ValueError(f"{path} is no list of patients; train that run anew") from error

    def claim(self, out: Path) -> None:
        """Write the list into `out`, or check that it is that of the run that is there.

        Raises:
            ValueError: it is not, or the run that is there has none.
        """
        path = out / FILE
        if path.is_file():
            there = Learnt.load(out)
            if there != self:
                raise ValueError(f"{out} holds a run on other samples ({_difference(there, self)}); {MEND}")
            return
        if any((out / "stages").glob("*.pt")):
            raise ValueError(f"{out} holds a run without {FILE}, so nobody knows whom it learnt from; {MEND}")
        out.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        partial.write_bytes(TypeAdapter(Learnt).dump_json(self, indent=1))
        partial.rename(path)


def _seen(samples: Iterable[Sample]) -> tuple[Seen, ...]:
    return tuple(sorted(Seen.of(sample) for sample in samples))


def _patients(seen: Iterable[Seen]) -> set[str]:
    return {one.patient for one in seen}


def _difference(there: Learnt, mine: Learnt) -> str:
    for use, old, new in (
        ("train", there.train, mine.train),
        ("tune", there.tune, mine.tune),
        ("adapt", there.adapt, mine.adapt),
        ("the earlier run's train", there.before, mine.before),
        ("the earlier run's tune", there.before_tune, mine.before_tune),
    ):
        more, fewer = _patients(new) - _patients(old), _patients(old) - _patients(new)
        if more or fewer:
            return f"{use}: {len(more)} new patients, {len(fewer)} gone, such as {min(more | fewer)}"
    return "the same patients, their samples made anew"
