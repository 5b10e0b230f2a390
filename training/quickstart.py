"""Every step of training once, on a tiny setting: what the commands do, one after the other."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from rich.console import Console

from training.bundling import calibrate_run, export_run, graphs, predict_set, seal_run, trained
from training.calibration.store import load as load_calibration
from training.compare.compare import Request as Comparison
from training.compare.compare import compare
from training.curriculum.stages import train
from training.curriculum.store import Cohort, open_samples
from training.data import cohort as cohorts
from training.data.sample import Sample
from training.data.synthetic import FollowUp
from training.evaluation.evaluate import evaluate
from training.explain.cases import Point
from training.explain.explain import Request as Explanation
from training.explain.explain import explain
from training.settings import Settings, load
from training.shrink.benchmark import Load, benchmark
from training.shrink.distil import Tuning
from training.shrink.pipeline import Data, Plan, shrink

SEEDS = {"train": 1, "tune": 2, "test": 3, "shifted": 4}
PLANE = (96, 112)


@dataclass(frozen=True, kw_only=True)
class Quickstart:
    """Settings and where everything goes; every step keeps what is there already."""

    settings: Settings
    out: Path

    def samples(self, split: str) -> list[Sample]:
        """Return a split as memory maps."""
        return open_samples(self.out / "samples" / split, self.out / "maps")

    def synth(self) -> None:
        """Make training, tuning, test and shifted patients."""
        data = self.settings.data
        counts = {"train": data.train, "tune": data.tune, "test": data.test, "shifted": data.test}
        for split, count in counts.items():
            cohort = cohorts.Cohort(
                kind=data.kind,
                seed=SEEDS[split],
                recipe=self.settings.recipe,
                shifted=split == "shifted",
                normal_fraction=data.normal_fraction,
                follow=FollowUp(hazard_per_day=data.hazard_per_day, censor_days=data.censor_days),
            )
            cohorts.write(cohort, self.out / "samples" / split, count)

    def train(self) -> None:
        """Train through all stages."""
        train(self.settings, Cohort(train=self.samples("train"), tune=self.samples("tune")), self.out)

    def export(self) -> None:
        """Write FP32 and INT8 graphs."""
        export_run(self.settings, trained(self.settings, self.out), self.samples("train"), self.out)

    def calibrate(self) -> None:
        """Fit thresholds and intervals on what INT8 says of the tuning patients."""
        calibrate_run(self.settings, graphs(self.out), self.samples("tune"), self.out)

    def predict(self) -> None:
        """Read test and shifted patients, and the test ones in FP32 as well."""
        exported, fitted = graphs(self.out), load_calibration(self.out / "calibration.toml")
        kinds = {"test": exported.shipped, "shifted": exported.shipped, "test-fp32": exported.fp32}
        for name, chosen in kinds.items():
            samples = self.samples(name.removesuffix("-fp32"))
            predict_set(self.settings, chosen, samples, self.out / "predictions" / name, fitted.calibration)

    def seal(self) -> None:
        """Seal the INT8 bundle."""
        used = {"training": self.samples("train"), "calibration": self.samples("tune")}
        folders = {name: self.out / "predictions" / name for name in ("test", "shifted", "test-fp32")}
        words = {
            "unseen synthetic studies": folders["test"],
            "shifted synthetic studies": folders["shifted"],
            "unseen synthetic studies, FP32 graphs": folders["test-fp32"],
        }
        seal_run(self.settings, self.out, used, words, self.out / "bundle")

    def evaluate(self) -> None:
        """Measure both sets and write a report each."""
        for name in ("test", "shifted"):
            evaluate(self.out / "predictions" / name, self.bundle, self.out / "evaluation" / name)

    def explain(self) -> None:
        """Show right and wrong cases and what the network looks at."""
        explain(
            Explanation(
                predictions=self.out / "predictions" / "test",
                samples=self.out / "samples" / "test",
                out=self.out / "explain",
                point=Point.of_bundle(self.bundle),
                network=(self.out / "stages" / "settle.pt", self.out / "settings.toml"),
            )
        )

    def compare(self) -> None:
        """Test INT8 against FP32 on the same patients."""
        folders = {"INT8": self.out / "predictions" / "test", "FP32": self.out / "predictions" / "test-fp32"}
        points = dict.fromkeys(folders, Point.of_bundle(self.bundle))
        compare(Comparison(folders=folders, out=self.out / "compare", points=points))

    def shrink(self) -> None:
        """Prune half of the parameters, distil, quantise, measure size, speed and accuracy."""
        stages = self.settings.stages
        tuning = Tuning(steps=120, head_epochs=5, learning_rate=stages.learning_rate / 3)
        data = Data(train=self.samples("train"), tune=self.samples("tune"))
        plan = Plan(ratio=0.5, tuning=tuning)
        shrink(self.settings, trained(self.settings, self.out), data, plan, self.out / "shrink")
        load_ = Load(rounds=10, plane=PLANE)
        benchmark(self.settings, self.out / "shrink", self.samples("test"), load_)

    @property
    def bundle(self) -> Path:
        """Return where the sealed bundle lies."""
        return self.out / "bundle" / self.settings.bundle.name / self.settings.bundle.version


def settings() -> Settings:
    """Return the tiny setting."""
    with as_file(files("training") / "configs" / "quickstart.toml") as path:
        return load(path)


def quickstart(chosen: Settings, out: Path, console: Console) -> Path:
    """Go through every step and return the sealed bundle's folder.

    Args:
        chosen: a run's settings; `settings()` are the tiny ones.
        out: the run's folder; a run that was stopped goes on.
        console: is told which step begins.
    """
    run = Quickstart(settings=chosen, out=out)
    steps: tuple[Callable[[], object], ...] = (
        run.synth,
        run.train,
        run.export,
        run.calibrate,
        run.predict,
        run.seal,
        run.evaluate,
        run.explain,
        run.compare,
        run.shrink,
    )
    for number, step in enumerate(steps, 1):
        console.rule(f"{number}/{len(steps)} {step.__doc__}")
        step()
    return run.bundle
