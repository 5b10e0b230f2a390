"""From a trained network to its smaller kin: pruned, fine-tuned, exported in FP32 and INT8.

`<out>/<variant>/network.pt`, `fp32/*.onnx`, `int8/*.onnx` for `original`, `pruned` and, for study, `magnitude`.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.metrics import compute_dice
from rich.console import Console

from daemon.inference.session import Model
from training.curriculum import stages, studies
from training.data.sample import Sample
from training.export import GRAPHS, calibration_stacks, export
from training.network import MultitaskNet, contiguous
from training.predictions import Prediction, predict
from training.provenance import digest_of
from training.seal import unsealed
from training.settings import Settings
from training.shrink import magnitude, structure
from training.shrink.distil import Pair, Tuning, distil
from training.shrink.fake_quant import fake_quantised

ORIGINAL, PRUNED, MAGNITUDE = "original", "pruned", "magnitude"
NETWORK, AWARE = "network.pt", "aware-network.pt"
VARIANTS = (ORIGINAL, PRUNED, MAGNITUDE)
PRECISIONS = ("fp32", "int8")
MADE_OF = "made-of.json"
# Settings that a shrunk network's weights depend on.
_MEANING: Mapping[str, Any] = {
    **dict.fromkeys(("seed", "recipe", "augment", "mixing", "network"), True),
    "stages": {"crop", "crop_slices", "batch", "clip"},
}
# Checkpoints of a run, the best to shrink first.
STAGES = tuple(reversed(stages.STAGES))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to do.

    `ratio` of the parameters leaves; `study` adds magnitude pruning; a loss of mean Dice by INT8 above `int8_loss` is
    trained away; `passes` of MC-dropout when judging it.
    """

    ratio: float
    tuning: Tuning
    study: bool = False
    int8_loss: float = 0.005
    passes: int = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Data:
    """Samples to learn from and samples to judge INT8's loss by."""

    train: Sequence[Sample]
    tune: Sequence[Sample]


def checkpoint(run: Path) -> Path:
    """Return the checkpoint that `run`, a folder or the file itself, holds.

    Raises:
        FileNotFoundError: there is none.
    """
    if run.is_file():
        return run
    found = [p for stage in STAGES for p in (run / "stages" / f"{stage}.pt", run / f"{stage}.pt") if p.is_file()]
    if not found:
        raise FileNotFoundError(
            f"no {', '.join(STAGES)} checkpoint in {run}; train first, or name the file or an ensemble's member"
        )
    return found[0]


def made_of(folder: Path, precision: str) -> Path:
    """Return the network that a variant's graphs were exported from: INT8's where it had to be trained for INT8."""
    aware = folder / AWARE
    return aware if precision == "int8" and aware.is_file() else folder / NETWORK


def settings_of(settings: Settings, net: MultitaskNet) -> Settings:
    """Return the run's settings with the network's own widths, which masks and manifest follow."""
    return settings.model_copy(update={"network": net.settings})


def shrink(settings: Settings, teacher: MultitaskNet, data: Data, plan: Plan, out: Path) -> None:
    """Write all variants of `teacher` below `out`; what is there already is kept.

    Raises:
        ValueError: the ratio cannot be reached, or `out` holds variants of another teacher, plan or other samples.
    """
    _claim(settings, teacher, data, plan, out)
    torch.manual_seed(settings.seed)
    makers: dict[str, Callable[[], MultitaskNet]] = {
        ORIGINAL: lambda: teacher,
        PRUNED: lambda: _pruned(settings, teacher, data, plan, out),
    }
    if plan.study:
        makers[MAGNITUDE] = lambda: _sparse(settings, teacher, data, plan, out)
    for name, make in makers.items():
        kept = out / name / NETWORK
        if not kept.exists():
            _save(make(), kept)
        net = structure.read(kept, settings.inputs, settings.network)
        _export(settings, Pair(teacher=teacher, student=net), data, plan, out / name)


def _claim(settings: Settings, teacher: MultitaskNet, data: Data, plan: Plan, out: Path) -> None:
    """Write what the variants are made of into `out`, or check that those that are there are made of the same."""
    meaning = settings.model_dump_json(include=dict(_MEANING))
    mine = {
        "teacher": studies.digest(teacher),
        "settings": hashlib.sha256(meaning.encode()).hexdigest(),
        "plan": {name: value for name, value in asdict(plan).items() if name != "study"},
        "train samples": digest_of(data.train),
        "tune samples": digest_of(data.tune),
    }
    path, mend = out / MADE_OF, "give another --out, or remove it to begin anew"
    if path.is_file():
        there = json.loads(path.read_text(encoding="utf-8"))
        other = [name for name, value in mine.items() if there.get(name) != value]
        if other:
            raise ValueError(f"{out} holds variants made of another {', '.join(other)}; {mend}")
        return
    if any((out / name).is_dir() for name in VARIANTS):
        raise ValueError(f"{out} holds variants without {MADE_OF}, so nobody knows what they were made of; {mend}")
    structure.prune(teacher, settings.inputs, plan.ratio)  # a ratio that cannot be reached claims no folder
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(mine, indent=1) + "\n", encoding="utf-8")


def _pruned(settings: Settings, teacher: MultitaskNet, data: Data, plan: Plan, out: Path) -> MultitaskNet:
    student = structure.prune(teacher, settings.inputs, plan.ratio)
    pair = Pair(teacher=teacher, student=student)
    return distil(pair, data.train, settings, plan.tuning, out / PRUNED / "state.pt")


def _sparse(settings: Settings, teacher: MultitaskNet, data: Data, plan: Plan, out: Path) -> MultitaskNet:
    pair = Pair(teacher=teacher, student=magnitude.sparsify(teacher, plan.ratio))
    return magnitude.settle(distil(pair, data.train, settings, plan.tuning, out / MAGNITUDE / "state.pt"))


def _save(net: MultitaskNet, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    contiguous(net)
    partial = path.with_suffix(".part")
    torch.save(net.state_dict(), partial)
    partial.rename(path)


def _export(settings: Settings, pair: Pair, data: Data, plan: Plan, folder: Path) -> None:
    """Export a variant; where INT8 loses too much, learn to bear it and take what comes out if it loses less."""
    if (folder / "int8" / "heads.onnx").exists():
        return
    stacks = calibration_stacks(data.train, settings.recipe, settings.seed + 5)
    making = folder / "making"
    shutil.rmtree(making, ignore_errors=True)
    (folder / AWARE).unlink(missing_ok=True)
    export(pair.student, stacks, making)
    sure = settings_of(settings, pair.student)
    dice = {p: _mean_dice(sure, making / p, data.tune, plan) for p in PRECISIONS}
    if dice["fp32"] - dice["int8"] > plan.int8_loss:
        Console().print(f"{folder.name}: INT8 loses {dice['fp32'] - dice['int8']:.3f} Dice; training for it")
        tuning = replace(plan.tuning, bf16=False, learning_rate=plan.tuning.learning_rate / 10, head_epochs=0)
        with fake_quantised(pair.student):
            distil(pair, data.train, settings, tuning, folder / "aware.pt")
        export(pair.student, stacks, making / "aware")
        if _mean_dice(sure, making / "aware" / "int8", data.tune, plan) > dice["int8"]:
            shutil.rmtree(making / "int8")
            (making / "aware" / "int8").rename(making / "int8")
            _save(pair.student, folder / AWARE)
    for precision in PRECISIONS:
        shutil.rmtree(folder / precision, ignore_errors=True)
        (making / precision).rename(folder / precision)
    shutil.rmtree(making)


def _mean_dice(settings: Settings, graphs: Path, samples: Sequence[Sample], plan: Plan) -> float:
    with tempfile.TemporaryDirectory() as folder:
        found = read(settings, graphs, samples, Path(folder), plan.passes)
    scores = [dice for p in found if (dice := dice_of(p)) is not None]
    return float(np.mean(scores)) if scores else 1.0


def read(
    settings: Settings, graphs: Path, samples: Sequence[Sample], folder: Path, passes: int | None
) -> list[Prediction]:
    """Return what three graphs say of `samples` through the daemon's inference; what was said before is kept.

    Args:
        settings: with the network's own widths.
        graphs: folder of the graphs.
        samples: prepared by the settings' recipe.
        folder: where predictions are kept, apart for other graphs or passes.
        passes: MC-dropout passes; the bundle's own where None.
    """
    if not samples:
        return []
    count = passes or settings.bundle.passes
    settings = settings.model_copy(update={"bundle": settings.bundle.model_copy(update={"passes": count})})
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in graphs_in(graphs).values())).hexdigest()
    kept = folder / f"{graphs.parent.name}-{graphs.name}-{digest[:8]}-{count}"
    model = loaded(settings, graphs)
    return [Prediction.load(path) for path in predict(model, samples, kept, f"{graphs.parent.name} {graphs.name}")]


def loaded(settings: Settings, graphs: Path) -> Model:
    """Return the model of three graphs, uncalibrated."""
    with tempfile.TemporaryDirectory() as folder:
        return unsealed(settings, [graphs_in(graphs)], Path(folder))


def graphs_in(folder: Path) -> Mapping[str, Path]:
    """Return the three graphs of a folder by name."""
    return {name: folder / f"{name}.onnx" for name in GRAPHS}


def dice_of(prediction: Prediction) -> float | None:
    """Return Dice at .5 of a study with a drawn tumour; None of any other."""
    if prediction.truth is None or not prediction.truth.any():
        return None
    found = torch.from_numpy(prediction.probability >= 0.5)[None, None].float()
    truth = torch.from_numpy(prediction.truth.astype(np.float32))[None, None]
    return float(compute_dice(found, truth))
