"""Size, latency and accuracy of every variant in FP32 and INT8, by the daemon's own inference."""

import json
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import onnxruntime
from lifelines.utils import concordance_index
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.table import Table
from sklearn.metrics import roc_auc_score

from daemon.inference.mc_dropout import CHUNK
from daemon.inference.session import Model
from training.data.sample import Sample
from training.predictions import Prediction
from training.settings import Settings
from training.shrink import magnitude, structure
from training.shrink.pipeline import (
    NETWORK,
    ORIGINAL,
    PRECISIONS,
    VARIANTS,
    dice_of,
    graphs_in,
    loaded,
    made_of,
    read,
    settings_of,
)

THREADS = (1, 2)
REFERENCE = f"{ORIGINAL} fp32"


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Milliseconds a slice (median, first and third quartile) and medians of each round's ratio to FP32.

    `faster` is by the clock, `lighter` by processor time, which other programs disturb less.
    """

    ms: float
    low: float
    high: float
    faster: float
    lighter: float


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Mean Dice at .5 over studies with a tumour, ROC-AUC, Harrell's C; None where the set cannot give one."""

    studies: int
    sources: tuple[str, ...]
    dice: float | None
    auc: float | None
    c_index: float | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One variant in one precision."""

    name: str
    parameters: int
    sparsity: float
    size: int
    smaller: float
    speed: Mapping[int, Speed]
    accuracy: Accuracy | None


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is timed: rounds over all variants, each one chunk of slices of this in-plane size."""

    rounds: int = 30
    plane: tuple[int, int] = (240, 240)
    passes: int | None = None


def benchmark(settings: Settings, folder: Path, samples: Sequence[Sample], load: Load) -> list[Row]:
    """Measure the variants below `folder`; write `shrink.json` and `shrink.png` there.

    Raises:
        FileNotFoundError: `folder` holds no variant to compare with.
        ValueError: the plane is no multiple of what the recipe asks for.
    """
    if any(n % settings.recipe.multiple for n in load.plane):
        raise ValueError(f"the plane {load.plane} is no multiple of {settings.recipe.multiple}; give another size")
    variants = [name for name in VARIANTS if (folder / name / "int8" / "heads.onnx").is_file()]
    if ORIGINAL not in variants:
        raise FileNotFoundError(f"no {ORIGINAL} graphs in {folder}; run `shrink` into it first")
    nets = {n: structure.read(folder / n / NETWORK, settings.inputs, settings.network) for n in variants}
    own = {name: settings_of(settings, net) for name, net in nets.items()}
    speeds = {t: _speeds(_models(own, folder, t), load, settings.inputs) for t in THREADS}
    rows = []
    for name in variants:
        for precision in PRECISIONS:
            label, graphs = f"{name} {precision}", folder / name / precision
            size, whole = (_bytes(g) for g in (graphs, folder / ORIGINAL / "fp32"))
            found = read(own[name], graphs, samples, folder / "predictions", load.passes)
            rows.append(
                Row(
                    name=label,
                    parameters=structure.parameters(nets[name]),
                    sparsity=_sparsity(own[name], made_of(folder / name, precision)),
                    size=size,
                    smaller=whole / size,
                    speed={t: speeds[t][label] for t in THREADS},
                    accuracy=accuracy(found) if found else None,
                )
            )
    _write(rows, folder, load)
    return rows


def _sparsity(settings: Settings, network: Path) -> float:
    return magnitude.sparsity(structure.read(network, settings.inputs, settings.network))


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in graphs_in(folder).values())


def _models(own: Mapping[str, Settings], folder: Path, threads: int) -> dict[str, Model]:
    return {
        f"{name} {precision}": loaded(settings.model_copy(update={"threads": threads}), folder / name / precision)
        for name, settings in own.items()
        for precision in PRECISIONS
    }


def _speeds(models: Mapping[str, Model], load: Load, channels: int) -> dict[str, Speed]:
    """Time all models turn by turn, so that what else the machine does befalls all of them alike."""
    rng = np.random.Generator(np.random.Philox(1))
    stack = rng.standard_normal((CHUNK, channels, *load.plane), dtype=np.float32)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    for warm in (False, *[True] * load.rounds):
        for name, model in models.items():
            begun, used = time.perf_counter(), time.process_time()
            _once(model, stack)
            if warm:
                taken[name].append((time.perf_counter() - begun, time.process_time() - used))
    return {name: _speed(np.array(pairs), np.array(taken[REFERENCE])) for name, pairs in taken.items()}


def _once(model: Model, stack: NDArray[np.float32]) -> None:
    dropout, (member,) = model.manifest.dropout, model.members
    maps = member.encode(stack)
    member.decode(maps, {name: np.ones((1, width, 1, 1), np.float32) for name, width in dropout.decoder_masks.items()})
    widths = dropout.head_masks
    judge = {"h_detect": np.ones((1, widths["h_detect"], 1, 1)), "h_survive": np.ones((1, widths["h_survive"]))}
    member.judge(maps[-1], {name: mask.astype(np.float32) for name, mask in judge.items()})


def _speed(times: NDArray[np.float64], reference: NDArray[np.float64]) -> Speed:
    low, middle, high = np.quantile(times[:, 0] * 1000 / CHUNK, (0.25, 0.5, 0.75))
    faster, lighter = np.median(reference / times, axis=0)
    return Speed(ms=float(middle), low=float(low), high=float(high), faster=float(faster), lighter=float(lighter))


def accuracy(predictions: Sequence[Prediction]) -> Accuracy:
    """Return the figures of a set of predictions, means over MC-dropout passes, uncalibrated."""
    scores = [score for p in predictions if (score := dice_of(p)) is not None]
    known = [(p.tumour, float(p.tumour_logits.mean())) for p in predictions if p.tumour is not None]
    labels, logits = [k[0] for k in known], [k[1] for k in known]
    followed = [p for p in predictions if p.time_days is not None and p.event is not None]
    return Accuracy(
        studies=len(predictions),
        sources=tuple(sorted({p.source for p in predictions})),
        dice=float(np.mean(scores)) if scores else None,
        auc=float(roc_auc_score(labels, logits)) if len(set(labels)) == 2 else None,
        c_index=_concordance(followed),
    )


def _concordance(followed: Sequence[Prediction]) -> float | None:
    times, events = [p.time_days for p in followed], [p.event for p in followed]
    try:
        return float(concordance_index(times, [-float(p.risks.mean()) for p in followed], events))
    except ZeroDivisionError:  # lifelines, of studies of which no two can be put in order
        return None


def _write(rows: Sequence[Row], folder: Path, load: Load) -> None:
    document = {
        "machine": {"processor": platform.machine(), "onnxruntime": onnxruntime.__version__},
        "load": asdict(load) | {"slices": CHUNK},
        "reference": REFERENCE,
        "rows": [asdict(row) for row in rows],
    }
    (folder / "shrink.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    plot(rows, folder / "shrink.png")


def plot(rows: Sequence[Row], path: Path) -> None:
    """Draw size, latency and accuracy of all rows as bars beside each other."""
    names = [row.name.replace(" ", "\n") for row in rows]
    panels: list[tuple[str, list[float], list[str]]] = [
        ("megabytes", [r.size / 1e6 for r in rows], [f"{r.smaller:.1f}x smaller" for r in rows]),
        *[
            (f"ms a slice, {_threads(t)}", [r.speed[t].ms for r in rows], [f"{r.speed[t].faster:.1f}x" for r in rows])
            for t in rows[0].speed
        ],
    ]
    if all(r.accuracy and r.accuracy.dice is not None for r in rows):
        dice = [float(r.accuracy.dice or 0) if r.accuracy else 0.0 for r in rows]
        panels.append(("mean Dice", dice, [f"{d:.3f}" for d in dice]))
    with mpl.rc_context({"axes.spines.top": False, "axes.spines.right": False, "font.size": 9}):
        figure = Figure(figsize=(3.6 * len(panels), 3.8), layout="constrained")
        for axes, (title, values, notes) in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
            colours = ["#7a8ea8" if row.name.endswith("fp32") else "#1f5fa8" for row in rows]
            axes.bar_label(axes.bar(names, values, color=colours), notes, padding=2)
            axes.set_title(title)
            axes.margins(y=0.12)
            axes.tick_params(labelsize=7)
        figure.savefig(path, dpi=130)


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def table(rows: Sequence[Row]) -> Table:
    """Return the rows as a table for the terminal."""
    shown = Table(title="Smaller and faster than FP32; synthetic scores are not clinical ones")
    heads = ("variant", "parameters", "MB", "smaller", *(f"ms, {_threads(t)}" for t in rows[0].speed))
    for head in (*heads, "Dice", "AUC", "C"):
        shown.add_column(head, justify="left" if head == "variant" else "right")
    for row in rows:
        speed = [f"{s.ms:.2f} ({s.faster:.2f}x)" for s in row.speed.values()]
        found = row.accuracy
        scores = (found.dice, found.auc, found.c_index) if found else (None, None, None)
        shown.add_row(
            row.name,
            f"{row.parameters:,}",
            f"{row.size / 1e6:.2f}",
            f"{row.smaller:.2f}x",
            *speed,
            *("n/a" if score is None else f"{score:.3f}" for score in scores),
        )
    return shown
