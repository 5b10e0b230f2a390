"""A cohort of synthetic patients: one kind of generator, one seed, follow-up from a known hazard."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
from lifelines.utils import concordance_index

from daemon.domain.model_bundle import Recipe
from dicom_fixtures.phantoms import BRAIN_STRATA, PETCT_STRATA, BrainRequest, PetCtRequest, Phantom, brain, petct
from training.data.sample import Sample
from training.data.synthetic import CONTRAST_WEIGHTS, CONTRASTS, FollowUp, Naming, in_parallel, sample

STRATA = {"brain": BRAIN_STRATA, "petct": PETCT_STRATA}
# Spacings (slice, row, column) in mm of PET cameras other than the training generator's.
OTHER_CAMERAS_MM = ((5.0, 2.73, 2.73), (2.0, 4.07, 4.07), (3.27, 5.47, 5.47))
# The plain outline is defined where fluid-sensitive contrasts show it.
SHIFTED_WEIGHTS = (0.7, 0.3, 0.0, 0.0)
COHORT_FILE = "cohort.json"


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """What to draw: training studies, or `shifted` ones that training never sees; `stratum` makes all of them hard.

    `contrast` fixes an MR contrast, empty draws one per patient. Each patient depends on the seed, its own number
    and these options, so a cohort can be stopped, resumed and extended.

    Raises:
        ValueError: the stratum or contrast is unknown, or the fraction of normals is no share.
    """

    kind: Literal["brain", "petct"]
    seed: int
    recipe: Recipe
    shifted: bool = False
    stratum: str = ""
    contrast: str = ""
    normal_fraction: float = 0.3
    follow: FollowUp = field(default_factory=FollowUp)

    def __post_init__(self) -> None:
        if self.stratum and self.stratum not in STRATA[self.kind]:
            raise ValueError(f"no stratum {self.stratum!r} of {self.kind}: use one of {', '.join(STRATA[self.kind])}")
        if self.contrast and self.contrast not in (CONTRASTS if self.kind == "brain" else ()):
            known = ", ".join(CONTRASTS) if self.kind == "brain" else "none, PET/CT has no contrasts"
            raise ValueError(f"no contrast {self.contrast!r} of {self.kind}: use {known}")
        if not 0 <= self.normal_fraction <= 1:
            raise ValueError(f"normal fraction {self.normal_fraction} is no share: use 0 to 1")

    def facts(self) -> dict[str, Any]:
        """Return the options as JSON holds them."""
        document: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return document


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Counts of a cohort; `oracle_c_index` is Harrell's of the true log hazard, nan without a comparable pair."""

    patients: int
    tumours: int
    normals: int
    events: int
    median_days: float
    sources: dict[str, int]
    strata: dict[str, int]
    oracle_c_index: float


def draw(cohort: Cohort, index: int) -> Sample:
    """Return patient `index` of the cohort."""
    variant = 1 + (("", *STRATA[cohort.kind]).index(cohort.stratum)) * 2 + int(cohort.shifted)
    entropy = np.random.SeedSequence([cohort.seed, index, variant])
    phantom_seed, own_seed = (int(word) >> 1 for word in entropy.generate_state(2, np.uint64))
    rng = np.random.Generator(np.random.Philox(own_seed))
    made, contrast = _phantom(cohort, rng, phantom_seed)
    word = "shifted phantom" if cohort.shifted else "phantom"
    strata = tuple(part for part in (cohort.stratum, "shifted" if cohort.shifted else "") if part)
    naming = Naming(name=name(cohort, index), contrast=contrast, source=f"{word} {contrast}", strata=strata)
    return sample(rng, made, naming, cohort.recipe, cohort.follow)


def _phantom(cohort: Cohort, rng: np.random.Generator, seed: int) -> tuple[Phantom, str]:
    lesions = 0 if rng.random() < _normal_fraction(cohort) else int(rng.choice((1, 1, 1, 2, 3)))
    options: dict[str, Any] = {"seed": seed, "lesions": lesions, "stratum": cohort.stratum}
    options |= {"shifted": cohort.shifted, "randomise": not cohort.shifted}
    if cohort.kind == "petct":
        camera = OTHER_CAMERAS_MM[int(rng.integers(len(OTHER_CAMERAS_MM)))]
        return petct(PetCtRequest(spacing=camera if cohort.shifted else (4.0, 4.0, 4.0), **options)), "FDG"
    drawn = str(rng.choice(CONTRASTS, p=SHIFTED_WEIGHTS if cohort.shifted else CONTRAST_WEIGHTS))
    contrast = cohort.contrast or drawn
    return brain(BrainRequest(contrasts=(contrast,), **options)), contrast


def _normal_fraction(cohort: Cohort) -> float:
    """Return the share without tumour: a stratum of hard tumours has tumours only, look-alikes half."""
    if cohort.stratum == "look-alikes":
        return 0.5
    return 0.0 if cohort.stratum else cohort.normal_fraction


def name(cohort: Cohort, index: int) -> str:
    """Return the name of patient `index`, which tells its cohort."""
    words = [cohort.kind, f"s{cohort.seed}", "shift" if cohort.shifted else "", cohort.stratum.replace(" ", "_")]
    return "-".join([word for word in words if word] + [f"{index:05d}"])


def write(cohort: Cohort, folder: Path, patients: int, *, workers: int = 0) -> list[Path]:
    """Write the first `patients` of the cohort into `folder`, but for those already there; return their files.

    Raises:
        ValueError: fewer than one patient, or `folder` holds a cohort with other options.
    """
    if patients < 1:
        raise ValueError(f"{patients} patients are none to write: ask for at least 1")
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / COHORT_FILE
    if note.exists() and json.loads(note.read_text(encoding="utf-8"))["cohort"] != cohort.facts():
        raise ValueError(f"{folder} holds a cohort with other options (see {note}): choose another folder")
    if not note.exists():
        note.write_text(json.dumps({"cohort": cohort.facts()}, indent=1), encoding="utf-8")
    limit = min(workers or os.cpu_count() or 1, patients)
    return in_parallel(partial(_store, cohort, folder), range(patients), workers=limit)


def _store(cohort: Cohort, folder: Path, index: int) -> Path:
    path = folder / f"{name(cohort, index)}.npz"
    return path if path.exists() else draw(cohort, index).save(folder)


def summarise(samples: Sequence[Sample]) -> Summary:
    """Return the counts of synthetic samples and what a reader of the true hazard would reach."""
    days = [s.time_days or 0.0 for s in samples]
    events = [s.event or 0 for s in samples]
    hazard = [s.log_hazard or 0.0 for s in samples]
    try:
        oracle = float(concordance_index(days, [-h for h in hazard], events))
    except ZeroDivisionError:
        oracle = float("nan")
    return Summary(
        patients=len(samples),
        tumours=sum(s.tumour == 1 for s in samples),
        normals=sum(s.tumour == 0 for s in samples),
        events=sum(events),
        median_days=median(days),
        sources=dict(sorted(Counter(s.source for s in samples).items())),
        strata=dict(sorted(Counter(stratum for s in samples for stratum in s.strata).items())),
        oracle_c_index=oracle,
    )
