"""From a trained run to a bundle, step by step: export, predict, calibrate, measure, seal.

A run's folder holds `stages/`, `fp32/`, `int8/`, `calibration.toml` and `predictions/<set>/`; an ensemble's has the
first three in `member-1/`, `member-2/` and so on.
"""

import itertools
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from daemon.domain.model_bundle import Calibration
from daemon.imaging.steps import neighbour_stack
from training.calibration.figures import score
from training.calibration.fit import NEUTRAL, Fitted, fit
from training.calibration.store import load as load_calibration
from training.calibration.store import save
from training.curriculum.learnt import FILE, Learnt
from training.data.sample import Sample
from training.export import GRAPHS, Exported, calibration_stacks, export
from training.network import MultitaskNet
from training.predictions import predict
from training.provenance import Seen, origins, provenance
from training.seal import Contents, seal, unsealed
from training.settings import Settings, load
from training.shrink import structure
from training.shrink.pipeline import checkpoint

CALIBRATION = "calibration.toml"
SETTINGS = "settings.toml"


def members(run: Path) -> tuple[Path, ...]:
    """Return the folders of an ensemble's members, or the run's own where it is one network.

    Raises:
        ValueError: `run` holds a network of its own beside them, or members that are not networks of one kind.
    """
    numbered = (run / f"member-{number}" for number in itertools.count(1))
    found = tuple(itertools.takewhile(lambda folder: (folder / SETTINGS).is_file(), numbered))
    if not found:
        return (run,)
    if (run / SETTINGS).is_file():
        raise ValueError(f"{run} holds a run of its own beside member-1; move one of the two elsewhere")
    first, *others = (load(folder / SETTINGS) for folder in found)
    for folder, other in zip(found[1:], others, strict=True):
        if (other.network, other.recipe) != (first.network, first.recipe):
            raise ValueError(f"{folder} and {found[0]} differ in [network] or [recipe], so they are no ensemble")
    return found


def settings_in(run: Path) -> Settings:
    """Return the settings of a run, of an ensemble those of its first member.

    Raises:
        FileNotFoundError: `run` is no run's folder.
        ValueError: see `members`.
    """
    path = members(run)[0] / SETTINGS
    if not path.is_file():
        raise FileNotFoundError(f"no {SETTINGS} in {run}; give the folder that `train` wrote")
    return load(path)


def trained(settings: Settings, run: Path) -> MultitaskNet:
    """Return the network of a run's last stage.

    Raises:
        FileNotFoundError: `run` holds no stage.
        ValueError: its weights are of another network than the settings'.
    """
    return structure.read(checkpoint(run), settings.inputs, settings.network)


def export_run(settings: Settings, net: MultitaskNet, samples: Sequence[Sample], run: Path) -> Exported:
    """Write FP32 and INT8 graphs below `run`; `samples` show activations their range."""
    return export(net, calibration_stacks(samples, settings.recipe, settings.seed + 5), run)


def graphs(run: Path) -> tuple[Exported, ...]:
    """Return the graphs of every member that `export_run` wrote.

    Raises:
        FileNotFoundError: they are not there.
        ValueError: see `members`.
    """
    return tuple(_graphs(folder) for folder in members(run))


def _graphs(run: Path) -> Exported:
    found = {kind: {name: run / kind / f"{name}.onnx" for name in GRAPHS} for kind in ("fp32", "int8")}
    missing = [path for paths in found.values() for path in paths.values() if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"{missing[0]} is missing; run `export` on {run} first")
    return Exported(fp32=found["fp32"], shipped=found["int8"])


def predict_set(
    settings: Settings,
    exported: Sequence[Mapping[str, Path]],
    samples: Sequence[Sample],
    out: Path,
    calibration: Calibration = NEUTRAL,
) -> Path:
    """Read `samples` with each member's graphs, not sealed yet; see `predictions.predict`."""
    scratch = out.with_name(f".{out.name}.graphs")
    try:
        predict(unsealed(settings, exported, scratch, calibration), samples, out, f"predict {out.name}")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return out


def calibrate_run(settings: Settings, exported: Sequence[Exported], tune: Sequence[Sample], run: Path) -> Fitted:
    """Fit the calibration on what the quantised graphs say of the tuning studies, and keep it in the run."""
    folder = predict_set(settings, [member.shipped for member in exported], tune, run / "predictions" / "tune")
    fitted = fit(folder, settings.calibration, settings.bundle.min_lesion_ml)
    save(fitted, run / CALIBRATION)
    return fitted


def seal_run(
    settings: Settings, run: Path, used: Mapping[str, Sequence[Sample]], measured: Mapping[str, Path], models: Path
) -> Path:
    """Seal a calibrated run into `models` and return the bundle's folder.

    Args:
        settings: the run's.
        run: holds graphs and calibration.
        used: samples by use, `calibration` among them.
        measured: predictions by the calibrated graphs, by the words that the card says of them.
        models: gets `<name>/<version>`.

    Raises:
        FileNotFoundError: graphs or calibration are not in the run.
        ValueError: a task was off, no calibration sample has an outlined tumour, or a source has no licence on record.
    """
    tasks = settings.network
    if not (tasks.do_seg and tasks.do_cls and tasks.do_surv):
        raise ValueError(
            "a bundle answers all three questions, and a task of this run was off; train with network.do_seg, do_cls "
            "and do_surv = true"
        )
    fitted = load_calibration(run / CALIBRATION)
    contents = Contents(
        exported=graphs(run),
        fitted=fitted,
        scores={words: score(folder, fitted.calibration) for words, folder in measured.items()},
        example=_example(settings, used["calibration"]),
        used=provenance({**used, "earlier training": _before(run)}, origins(settings.sources)),
    )
    return seal(settings, contents, models)


def _before(run: Path) -> list[Seen]:
    """Return what the weights that a run, or a member of it, began with had learnt from."""
    known = [Learnt.load(folder) for folder in members(run) if (folder / FILE).is_file()]
    return sorted({seen for one in known for seen in one.before})


def _example(settings: Settings, samples: Sequence[Sample]) -> NDArray[np.float32]:
    """Return a small tumour-bearing input for the golden outputs."""
    for sample in samples:
        if sample.mask is not None and sample.mask.any():
            marked = np.flatnonzero(sample.mask.any(axis=(1, 2)))
            around = int(marked[len(marked) // 2]) + np.arange(-1, 2)
            inside = np.clip(around, 0, sample.image.shape[1] - 1)
            stack = neighbour_stack(np.asarray(sample.image, dtype=np.float32), settings.recipe, inside)
            rows, columns = (max(n // 32 * 16, 16) for n in stack.shape[2:])
            return np.ascontiguousarray(stack[:, :, :rows, :columns])
    raise ValueError("no calibration sample has an outlined tumour; golden outputs need one")
