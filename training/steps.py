"""The steps from settings to a sealed bundle, each from what the one before left in the run's folder."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from daemon.domain.model_bundle import Recipe
from daemon.errors import OverreadError
from training.bundling import CALIBRATION, calibrate_run, export_run, graphs, predict_set, seal_run, trained
from training.calibration.store import load as load_calibration
from training.curriculum.folds import split
from training.curriculum.stages import train
from training.curriculum.store import Cohort, open_samples, patient_of, patients_in
from training.data import cohort as synthetic
from training.data.prepare import cause_of
from training.data.readers import Request, find
from training.data.readers.study import Study, read
from training.data.sample import Sample, npz_files
from training.data.synthetic import FollowUp
from training.export import demand_slices
from training.seal import manifest
from training.settings import RealUse, Settings

REAL = "real"
SPLITS = ("train", "tune", "test", "shifted", "calibrate")
CROSS_VALIDATED = "cross-validated"
FP32 = "-fp32"
# A fold's warm-up has seen all phantoms; to adapt and to learn heads it needs no more than these beside its patients.
FOLD_PHANTOMS = 300
SOURCES = {"brain": "real head", "petct": "real STS"}
WORDS = {
    "test": "unseen synthetic studies",
    "shifted": "shifted synthetic studies",
    f"test{FP32}": "unseen synthetic studies, FP32 graphs",
    REAL: "real patients, none of them in training",
    CROSS_VALIDATED: "real patients, cross-validated before joint fine-tuning",
}


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Settings and the run's folder; samples, checkpoints and folds that are there already are kept."""

    settings: Settings
    out: Path

    def before_sealing(self) -> tuple[Callable[[], None], ...]:
        """Return what makes and measures a model, in order."""
        return (
            self.synth,
            self.prepare,
            self.train,
            self.export,
            self.calibrate,
            self.predict,
            self.cross_validate,
        )

    def samples(self, name: str) -> list[Sample]:
        """Return a set as memory maps; as many as the settings say, though more lie there."""
        found = open_samples(self.out / "samples" / name, self.out / "maps")
        return found if name == REAL else found[: self._count(name)]

    def synth(self) -> None:
        """Make synthetic patients: to train, tune, calibrate and test on, shifted ones, hard ones."""
        for name in self._sets():
            synthetic.write(self._cohort(name), self.out / "samples" / name, self._count(name))

    def prepare(self) -> None:
        """Prepare the real patients, where they are at hand, but for those already prepared.

        Raises:
            ValueError: one cannot be read.
        """
        data, folder = self.settings.data, self.out / "samples" / REAL
        if data.real_use is RealUse.NONE:
            return
        root, there = Path(data.real_root), {path.stem for path in npz_files(folder)}
        if not root.is_dir():
            others = f"the {len(there)} patients in {folder}" if there else "phantoms alone"
            Console(stderr=True).print(f"no real data at {root}: going on with {others}", soft_wrap=True)
            return
        request = Request(manifest=manifest(self.settings), source=SOURCES[data.kind])
        for study in find("pairs", root, request):
            if study.name not in there:
                _read(study, self.settings.recipe).save(folder)

    def train(self) -> None:
        """Train through all stages."""
        train(self.settings, self._learning(self._adapting()), self.out)

    def export(self) -> None:
        """Write FP32 and INT8 graphs."""
        export_run(self.settings, trained(self.settings, self.out), self.samples("train"), self.out)

    def calibrate(self) -> None:
        """Fit thresholds and intervals on what INT8 says of patients that nothing was learnt from."""
        calibrate_run(self.settings, graphs(self.out), self.samples(self._calibrating), self.out)

    def predict(self) -> None:
        """Read every set that the card reports."""
        exported, fitted = graphs(self.out), load_calibration(self.out / CALIBRATION)
        shipped, fp32 = [one.shipped for one in exported], [one.fp32 for one in exported]
        measured = [name for name in self._sets() if name not in {"train", "tune", "calibrate"}]
        if self.settings.data.real_use is RealUse.MEASURE and self._real():
            measured.append(REAL)
        for name in measured:
            predict_set(self.settings, shipped, self.samples(name), self._said(name), fitted.calibration)
        test = self.samples("test")
        predict_set(self.settings, fp32, test, self._said(f"test{FP32}"), fitted.calibration)

    def cross_validate(self) -> None:
        """Read each real patient with a network that never saw it: the warm-up's, adapted to the other patients."""
        folds = self.settings.data.real_folds
        if not folds or not self._real():
            return
        cheap = {"stages.head_epochs": 20, "stages.joint_steps": 0, "stages.settle_epochs": 0}
        settings = self.settings.changed({**cheap, "stages.start": str(self.out), "stages.warmup_steps": 0})
        real, fitted = self.samples(REAL), load_calibration(self.out / CALIBRATION)
        for number, (learn, held) in enumerate(split(real, folds, self.settings.seed), 1):
            here = self.out / "folds" / f"{number}-of-{folds}"
            cohort = self._learning([real[i] for i in learn], FOLD_PHANTOMS)
            exported = export_run(settings, train(settings, cohort, here), cohort.train, here)
            said = predict_set(settings, [exported.shipped], [real[i] for i in held], here / "said", fitted.calibration)
            shutil.copytree(said, self._said(CROSS_VALIDATED), dirs_exist_ok=True)

    def seal(self, models: Path) -> Path:
        """Seal the INT8 bundle into `models` and return its folder."""
        folders = [folder for folder in self._said("").iterdir() if folder.name != "tune"]
        ranks = [*WORDS, *(f.name for f in folders)]
        folders.sort(key=lambda folder: ranks.index(folder.name))
        measured = {WORDS.get(f.name, f"hard synthetic studies: {f.name}"): f for f in folders}
        return seal_run(self.settings, self.out, self.used(), measured, models)

    def used(self) -> dict[str, list[Sample]]:
        """Return the samples that the bundle was made of, by use: real patients train heads and joint stage too."""
        training = [*self.samples("train"), *self._adapting()]
        return {"training": training, "calibration": self.samples(self._calibrating)}

    def _learning(self, adapting: list[Sample], phantoms: int | None = None) -> Cohort:
        """Return the cohort with so many phantoms (all without a number), real patients drawn as often as with all."""
        known = self.samples("train")
        some = known[:phantoms]
        weight = max(round(self.settings.data.real_weight * len(some) / len(known)), 1)
        return Cohort(
            train=some,
            tune=self.samples("tune"),
            adapt=adapting,
            adapt_weight=weight,
            measured=self._measured() - {patient_of(sample) for sample in adapting},
        )

    def _measured(self) -> frozenset[str]:
        """Return the patients of the sets to calibrate on and to measure, and all real ones that are of use."""
        names = [name for name in self._sets() if name not in {"train", "tune"}]
        names += [REAL] if self.settings.data.real_use is not RealUse.NONE else []
        return frozenset().union(*(patients_in(self.out / "samples" / name) for name in names))

    def _adapting(self) -> list[Sample]:
        return self.samples(REAL) if self.settings.data.real_use is RealUse.ADAPT and self._real() else []

    def _real(self) -> bool:
        return bool(npz_files(self.out / "samples" / REAL))

    def _said(self, name: str) -> Path:
        return self.out / "predictions" / name

    @property
    def _calibrating(self) -> str:
        return "calibrate" if self.settings.data.calibrate else "tune"

    def _sets(self) -> list[str]:
        names = (*SPLITS, *synthetic.STRATA[self.settings.data.kind])
        return [name for name in names if self._count(name)]

    def _count(self, name: str) -> int:
        return int(getattr(self.settings.data, name)) if name in SPLITS else self.settings.data.hard

    def _cohort(self, name: str) -> synthetic.Cohort:
        settings, hard = self.settings, name not in SPLITS
        return synthetic.Cohort(
            kind=settings.data.kind,
            seed=settings.seed + (len(SPLITS) if hard else SPLITS.index(name)),
            recipe=settings.recipe,
            shifted=name == "shifted",
            stratum=name if hard else "",
            normal_fraction=settings.data.normal_fraction,
            follow=FollowUp(hazard_per_day=settings.data.hazard_per_day, censor_days=settings.data.censor_days),
        )


def _read(study: Study, recipe: Recipe) -> Sample:
    try:
        return read(study, recipe)
    except (ValueError, OSError, RuntimeError, OverreadError) as error:
        raise ValueError(
            f"the real patient {study.name} cannot be read ({cause_of(error)}); mend its files, or take them out of "
            "data.real_root"
        ) from error


def run(settings: Settings, out: Path, models: Path) -> Path:
    """Make samples, train, export, calibrate, measure and seal; return the bundle's folder.

    Raises:
        ValueError: the network is 3-D or not of five levels, which would only be found out at the export.
    """
    demand_slices(settings.network)
    steps = Steps(settings=settings, out=out)
    for step in steps.before_sealing():
        step()
    return steps.seal(models)
