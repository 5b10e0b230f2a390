"""Seals a bundle: graphs, manifest, card, data provenance, novelty bank, golden outputs, licence, digests."""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tomli_w
from numpy.typing import NDArray

from daemon.domain.model_bundle import BundleRef, Calibration, Dropout, Graphs, Manifest, folders
from daemon.errors import FatalError
from daemon.inference.bundle import GOLDEN, MANIFEST, SUMS, Bundle, load_bundle
from daemon.inference.mc_dropout import draw
from daemon.inference.session import Model, replay, verify
from training.calibration.figures import Scores
from training.calibration.fit import NEUTRAL, Fitted
from training.calibration.store import BANK
from training.card import card
from training.export import GRAPHS, OPSET, Exported
from training.provenance import Used
from training.settings import Settings

PROVENANCE = "provenance.toml"


def manifest(
    settings: Settings, calibration: Calibration = NEUTRAL, *, bank: bool = False, members: int = 1
) -> Manifest:
    """Return the manifest of a run with so many `members`; `bank` says that a novelty bank goes with it."""
    widths = settings.network.widths
    first, *more = (Graphs(**{name: f"{folder}{name}.onnx" for name in GRAPHS}) for folder in folders(members))
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
        graphs=first,
        more_graphs=tuple(more),
        dropout=Dropout(
            rate=settings.network.dropout,
            passes=settings.bundle.passes,
            decoder_masks={f"m{i}": width for i, width in enumerate(widths)},
            head_masks={"h_detect": widths[-1], "h_survive": settings.network.survival_width},
        ),
        calibration=calibration,
        target=settings.target,
        novelty=BANK if bank else "",
    )


def unsealed(
    settings: Settings, members: Sequence[Mapping[str, Path]], folder: Path, calibration: Calibration = NEUTRAL
) -> Model:
    """Return a model of each member's graphs, not sealed yet: to calibrate with, or to measure a calibration.

    Its digest is that of the graphs.
    """
    _place(members, folder)
    digest = hashlib.sha256(b"".join(path.read_bytes() for graphs in members for path in graphs.values())).hexdigest()
    ref = BundleRef(name=settings.bundle.name, version=settings.bundle.version, digest=digest)
    document = manifest(settings, calibration, members=len(members))
    return Model(Bundle(path=folder, manifest=document, ref=ref), threads=settings.threads)


def _place(members: Sequence[Mapping[str, Path]], folder: Path) -> None:
    for where, graphs in zip(folders(len(members)), members, strict=True):
        (folder / where).mkdir(parents=True, exist_ok=True)
        for name, path in graphs.items():
            shutil.copyfile(path, folder / where / f"{name}.onnx")


@dataclass(frozen=True, kw_only=True, eq=False)
class Contents:
    """What goes into a bundle.

    `exported` are the graphs of each member, `example` is a small input stack (n, channels x neighbours, H, W) for
    golden outputs.
    """

    exported: tuple[Exported, ...]
    fitted: Fitted
    scores: Mapping[str, Scores]
    example: NDArray[np.float32]
    used: tuple[Used, ...] = ()


def seal(settings: Settings, contents: Contents, root: Path) -> Path:
    """Write the bundle to `root`/<name>/<version> and return its folder.

    Raises:
        RuntimeError: the sealed bundle does not load, or its golden outputs do not come back to the bit.
        ValueError: it is larger than the settings allow.
    """
    target = root / settings.bundle.name / settings.bundle.version
    folder = settings.build / "sealing"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / GOLDEN.parent).mkdir(parents=True)
    members = [exported.shipped for exported in contents.exported]
    _place(members, folder)
    fitted = contents.fitted
    bare = manifest(settings, fitted.calibration, bank=fitted.bank is not None, members=len(members))
    document = replace(bare, spreads=dict(fitted.spreads))
    if fitted.bank:
        fitted.bank.save(folder / BANK)
    (folder / MANIFEST).write_text(tomli_w.dumps(_plain(asdict(document))), encoding="utf-8")
    words = card(settings, fitted, contents.scores, contents.used, len(members))
    (folder / "card.md").write_text(words, encoding="utf-8")
    (folder / PROVENANCE).write_text(_provenance(contents.used), encoding="utf-8")
    shutil.copyfile(Path(__file__).parents[1] / "LICENSE", folder / "LICENSE")
    _golden(settings, document, contents.example, folder)
    _sign(folder)
    _prove(folder, settings.threads)
    _weigh(folder, settings.bundle.most_mb, len(members))
    # Whoever reads the bundle meanwhile sees the old one or the new one, hardly a mixture.
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(folder, target)
    return target


def _golden(settings: Settings, document: Manifest, example: NDArray[np.float32], folder: Path) -> None:
    ref = BundleRef(name=document.name, version=document.version, digest="sealing")
    model = Model(Bundle(path=folder, manifest=document, ref=ref), threads=settings.threads)
    masks = draw(document.dropout, np.random.Generator(np.random.Philox(settings.seed)))
    inputs = {"image": example, **masks}
    golden: dict[str, Any] = {**inputs, **replay(model, inputs)}
    np.savez_compressed(folder / GOLDEN, **golden)


def _sign(folder: Path) -> None:
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    (folder / SUMS).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _prove(folder: Path, threads: int) -> None:
    """Load the bundle as the daemon does and replay its golden outputs."""
    try:
        differing = verify(Model(load_bundle(folder), threads=threads))
    except FatalError as error:
        raise RuntimeError(f"the sealed bundle does not load: {error}") from error
    if differing:
        raise RuntimeError(f"the sealed bundle does not repeat its outputs {', '.join(differing)}; it is not shipped")


def _weigh(folder: Path, most_mb: float, members: int) -> None:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    if size > most_mb:
        raise ValueError(
            f"the bundle of {members} member{'s' if members > 1 else ''} is {size:.1f} MB, more than bundle.most_mb "
            f"{most_mb:g}; take fewer members, narrower network.widths or pruned networks (`shrink`), or allow more"
        )


def _provenance(used: tuple[Used, ...]) -> str:
    sources = [
        {**item.origin.model_dump(exclude={"prefix"}), **{k: v for k, v in asdict(item).items() if k != "origin"}}
        for item in used
    ]
    return tomli_w.dumps({"sources": sources})


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
