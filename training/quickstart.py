"""Every step of training once, on a tiny setting: what the commands do, one after the other."""

from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path

from rich.console import Console

from training.bundling import trained
from training.compare.compare import Request as Comparison
from training.compare.compare import compare
from training.evaluation.evaluate import evaluate
from training.explain.cases import Point
from training.explain.explain import Request as Explanation
from training.explain.explain import explain
from training.settings import Settings, load
from training.shrink.benchmark import Load, benchmark
from training.shrink.distil import Tuning
from training.shrink.pipeline import Data, Plan, shrink
from training.steps import Steps

PLANE = (96, 112)


class Quickstart(Steps):
    """All steps of a run, and all that can be learnt about it."""

    def seal(self, models: Path | None = None) -> Path:
        """Seal the INT8 bundle."""
        return super().seal(models or self.out / "bundle")

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
        steps, epochs = max(1, stages.warmup_steps // 13), max(1, stages.head_epochs // 6)
        tuning = Tuning(steps=steps, head_epochs=epochs, learning_rate=stages.learning_rate / 3)
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
        *run.before_sealing(),
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
