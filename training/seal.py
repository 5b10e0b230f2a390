"""Seals a bundle: graphs, manifest, card, golden outputs, licence, digests."""

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tomli_w
from numpy.typing import NDArray

from daemon.domain.model_bundle import BundleRef, Calibration, Dropout, Graphs, Manifest
from daemon.inference.bundle import GOLDEN, MANIFEST, SUMS, Bundle
from daemon.inference.mc_dropout import draw
from daemon.inference.session import Model, replay
from training.calibrate import NEUTRAL, Scores
from training.export import OPSET, Exported
from training.settings import Settings


def manifest(settings: Settings, calibration: Calibration = NEUTRAL) -> Manifest:
    """Return the run's manifest."""
    widths = settings.network.widths
    return Manifest(
        name=settings.bundle.name,
        version=settings.bundle.version,
        title=settings.bundle.title,
        licence="Apache-2.0",
        opset=OPSET,
        onnxruntime=onnxruntime.__version__,
        quantisation="static QDQ, U8 activations, S8 weights per channel, MinMax; heads and last convolution FP32",
        eligibility=settings.eligibility,
        recipe=settings.recipe,
        graphs=Graphs(encoder="encoder.onnx", decoder="decoder.onnx", heads="heads.onnx"),
        dropout=Dropout(
            rate=settings.network.dropout,
            passes=settings.bundle.passes,
            decoder_masks={f"m{i}": width for i, width in enumerate(widths)},
            head_masks={"h_detect": widths[-1], "h_survive": settings.network.survival_width},
        ),
        calibration=calibration,
        target=settings.target,
    )


def unsealed(settings: Settings, exported: Mapping[str, Path], folder: Path) -> Model:
    """Return a model of graphs that have no calibration yet, to calibrate with."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in exported.items():
        shutil.copyfile(path, folder / f"{name}.onnx")
    ref = BundleRef(name=settings.bundle.name, version=settings.bundle.version, digest="unsealed")
    return Model(Bundle(path=folder, manifest=manifest(settings), ref=ref), threads=settings.threads)


@dataclass(frozen=True, kw_only=True, eq=False)
class Contents:
    """What goes into a bundle."""

    exported: Exported
    calibration: Calibration
    scores: Mapping[str, Scores]
    example: NDArray[np.float32]


def seal(settings: Settings, contents: Contents, root: Path) -> Path:
    """Write the bundle to `root`/<name>/<version> and return its folder."""
    target = root / settings.bundle.name / settings.bundle.version
    folder = settings.build / "sealing"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / GOLDEN.parent).mkdir(parents=True)
    for name, path in contents.exported.shipped.items():
        shutil.copyfile(path, folder / f"{name}.onnx")
    document = manifest(settings, contents.calibration)
    (folder / MANIFEST).write_text(tomli_w.dumps(_plain(asdict(document))), encoding="utf-8")
    (folder / "card.md").write_text(card(settings, contents), encoding="utf-8")
    shutil.copyfile(Path(__file__).parents[1] / "LICENSE", folder / "LICENSE")
    ref = BundleRef(name=document.name, version=document.version, digest="sealing")
    model = Model(Bundle(path=folder, manifest=document, ref=ref), threads=settings.threads)
    masks = draw(document.dropout, np.random.Generator(np.random.Philox(settings.seed)))
    inputs = {"image": contents.example, **masks}
    golden: dict[str, Any] = {**inputs, **replay(model, inputs)}
    np.savez_compressed(folder / GOLDEN, **golden)
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    (folder / SUMS).write_text("\n".join(lines) + "\n", encoding="utf-8")
    # Whoever reads the bundle meanwhile sees the old one or the new one, hardly a mixture.
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(folder, target)
    return target


def _plain(value: object) -> dict[str, object]:
    """Return what TOML can hold: string keys, lists, plain strings."""
    cleaned = _clean(value)
    if not isinstance(cleaned, dict):
        raise TypeError("a manifest is a table")
    return cleaned


def _clean(value: object) -> object:
    if isinstance(value, dict):
        return {str(k): _clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(v) for v in value]
    return str(value) if isinstance(value, str) else value


def card(settings: Settings, contents: Contents) -> str:
    """Return the model card; every number names the data it is from."""
    rows = "\n".join(
        f"| {name} | {s.studies} | {_n(s.dice_mean)} | {_n(s.dice_median)} | {_n(s.auc)} | {_n(s.sensitivity)} | "
        f"{_n(s.specificity)} | {_n(s.c_index)} | {_n(s.c_index_oracle)} |"
        for name, s in contents.scores.items()
    )
    data = settings.data
    return f"""# {settings.bundle.title} {settings.bundle.version}

Research use only; not a medical device. Outlines tumour, gives a tumour probability and a survival risk, each with
its MC-dropout uncertainty ({settings.bundle.passes} passes, rate {settings.network.dropout}).

## Data
{data.train} synthetic studies over real anatomy (`dicom_fixtures`, seed {settings.seed}), {data.tune} for calibration,
{data.test} for the test below; no seed is in two of them, but all share the few anatomies that the fixtures ship, so
unseen means unseen seeds. {_real(settings)}
Follow-up is **simulated** from a known hazard: survival numbers show that the method works, not that it predicts a
patient's survival.

## Figures of this INT8 bundle, through the daemon's inference
Synthetic scores are not clinical ones. Test phantoms are plain ones (heads: FLAIR), as the fixtures make them; the
threshold was fitted on randomised ones of all contrasts (highest sensitivity + specificity; before this set was drawn
the rule had been sensitivity .98, which on an earlier set of heads gave a specificity of .41). Real rows hold tumours
only, so their sensitivity says nothing of false alarms.

| data | studies | Dice mean | Dice median | AUC | sensitivity | specificity | C-index | oracle's |
|---|---|---|---|---|---|---|---|---|
{rows}

## Limits
Trained on few anatomies; unseen disease, post-operative change, children, artefacts and other protocols were not
tested. The Cox loss shapes the head, not the encoder. One network, no ensemble. What the first pass misses has no
voxel uncertainty of its own.
"""


def _real(settings: Settings) -> str:
    if settings.data.kind == "brain":
        return "No real patient in training; the real heads below (AIM-Harvard/pyradiomics, BSD-3) are only measured."
    if not settings.data.real_root:
        return "No real patient's data."
    held = ", ".join(settings.data.real_held_out)
    return (
        "Real FDG PET/CT of soft-tissue sarcoma (TCIA, CC BY 3.0, doi 10.7937/K9/TCIA.2015.7GO2GSKS) joined training; "
        f"held out: {held}."
    )


def _n(value: float) -> str:
    return "n/a" if np.isnan(value) else f"{value:.3f}"
