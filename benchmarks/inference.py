"""How much faster MC-dropout is here than 30 plain passes, and what INT8 gives per graph.

Run as `python -m benchmarks.inference [--passes 30] [--threads 2]`, or with `--provider openvino` to see execution
providers side by side instead. One head of 155 x 240 x 240 voxels. The plain way
runs the same network in torch FP32, encoder included, once per pass over the whole volume; ours runs before and after
it, so that a busy machine slows both. Graphs are run in turn on the same input; what counts is the median of ratios.
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.providers import compare
from daemon.config import bundled_models
from daemon.domain.model_bundle import Manifest
from daemon.domain.provider import Provider
from daemon.imaging.steps import Prepared, neighbour_stack, normalise
from daemon.imaging.volume import Grid
from daemon.inference.bundle import Bundle, installed
from daemon.inference.mc_dropout import CHUNK, infer
from daemon.inference.session import Member, Model
from dicom_fixtures.phantoms import BrainRequest, brain
from training.export import export
from training.network import MultitaskNet
from training.settings import NetworkSettings

SHAPE = (155, 240, 240)
ROUNDS = 7
Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of INT8 and FP32 in turn."""

    graph: str
    int8: tuple[float, ...]
    fp32: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Return how many times faster INT8 is."""
        return statistics.median(slow / fast for fast, slow in zip(self.int8, self.fp32, strict=True))


def head(manifest: Manifest) -> Prepared:
    """Return a normalised head with one tumour, cut or padded to the benchmark's shape."""
    voxels = brain(BrainRequest(seed=11, lesions=1, contrasts=("FLAIR",), spacing=(1.0, 1.0, 1.0))).images["FLAIR"]
    for axis, size in enumerate(SHAPE):
        extra = size - voxels.shape[axis]
        before = max(-extra, 0) // 2
        voxels = np.take(voxels, range(before, before + min(size, voxels.shape[axis])), axis=axis)
        padding = [(max(extra, 0) // 2, max(extra, 0) - max(extra, 0) // 2) if a == axis else (0, 0) for a in range(3)]
        voxels = np.pad(voxels, padding)
    channels = [normalise(voxels.astype(np.float32), c) for c in manifest.recipe.channels]
    return Prepared(array=np.stack(channels), grid=Grid(size=SHAPE, spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0)))


def network(manifest: Manifest) -> MultitaskNet:
    """Return the bundle's architecture in torch; its weights do not matter for its speed."""
    dropout, recipe = manifest.dropout, manifest.recipe
    settings = NetworkSettings(
        widths=tuple(dropout.decoder_masks.values()),
        survival_width=dropout.head_masks["h_survive"],
        dropout=dropout.rate,
    )
    return MultitaskNet(recipe.neighbours * len(recipe.channels), settings).eval()


@torch.no_grad()
def naive(net: MultitaskNet, prepared: Prepared, manifest: Manifest, passes: int) -> float:
    """Return the seconds of `passes` whole passes of `net` in torch FP32, voxel mean and SD at the end."""
    count, rate = SHAPE[0], manifest.dropout.rate
    widths = manifest.dropout.head_masks
    started = time.perf_counter()
    volumes = np.empty((passes, *SHAPE), dtype=np.float32)
    for volume in volumes:
        masks = net.decoder_masks(1, rate)
        deepest = []
        for start in range(0, count, CHUNK):
            indices = np.arange(start, min(start + CHUNK, count))
            maps = net.encoder(torch.from_numpy(neighbour_stack(prepared.array, manifest.recipe, indices)))
            volume[indices] = torch.sigmoid(net.decoder(maps, masks))[:, 0].numpy()
            deepest.append(maps[-1])
        net.heads(torch.cat(deepest), torch.ones(1, widths["h_detect"], 1, 1), torch.ones(1, widths["h_survive"]))
    volumes.mean(axis=0), volumes.std(axis=0)
    return time.perf_counter() - started


def ours(model: Model, prepared: Prepared, passes: int) -> tuple[float, float]:
    """Return the seconds of our MC-dropout, and the share of voxels that got passes."""
    started = time.perf_counter()
    inference = infer(model, prepared, "benchmark", passes)
    return time.perf_counter() - started, float((inference.sd > 0).mean())


def plain_graphs(bundle: Bundle, scratch: Path) -> Path:
    """Return a folder of FP32 graphs: the training's own where they are, else the same architecture exported."""
    kept = Path("build") / f"{bundle.ref.name}-{bundle.ref.version}" / "fp32"
    if kept.is_dir():
        return kept
    channels = bundle.manifest.recipe.neighbours * len(bundle.manifest.recipe.channels)
    stacks = [np.random.default_rng(n).random((2, channels, 64, 96), dtype=np.float32) for n in range(2)]
    return export(network(bundle.manifest), stacks, scratch).fp32["encoder"].parent


def graphs(int8: Model, fp32: Model, prepared: Prepared) -> list[Timing]:
    """Time each graph in turn on a chunk through the middle of the head."""
    dropout = int8.manifest.dropout
    middle = np.arange(SHAPE[0] // 2, SHAPE[0] // 2 + CHUNK)
    stack = neighbour_stack(prepared.array, int8.manifest.recipe, middle)
    maps = int8.members[0].encode(stack)
    ones = {name: np.ones((1, width, 1, 1), np.float32) for name, width in dropout.decoder_masks.items()}
    heads = {"h_detect": np.ones((1, dropout.head_masks["h_detect"], 1, 1), np.float32)}
    heads["h_survive"] = np.ones((1, dropout.head_masks["h_survive"]), np.float32)
    runs: dict[str, Callable[[Member], object]] = {
        "encoder": lambda m: m.encode(stack),
        "decoder": lambda m: m.decode(maps, ones),
        "encoder + decoder": lambda m: m.decode(m.encode(stack), ones),
        "heads (FP32 in both)": lambda m: m.judge(maps[-1], heads),
    }
    return [_turns(name, run, (int8.members[0], fp32.members[0])) for name, run in runs.items()]


def _turns(name: str, run: Callable[[Member], object], members: tuple[Member, Member]) -> Timing:
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(ROUNDS + 1):
        for member, spent in zip(members, seconds, strict=True):
            started = time.perf_counter()
            run(member)
            if turn:
                spent.append(time.perf_counter() - started)
    return Timing(graph=name, int8=tuple(seconds[0]), fp32=tuple(seconds[1]))


def report_graphs(bundle: Bundle, fp32: Path, timings: list[Timing]) -> None:
    """Print the table of graphs."""
    print(f"\n### INT8 against FP32, ONNX Runtime, {CHUNK} slices of {SHAPE[1]} x {SHAPE[2]}\n")
    print("| graph | INT8 ms | FP32 ms | times faster | INT8 KiB | FP32 KiB | times smaller |")
    print("|---|---|---|---|---|---|---|")
    for t in timings:
        files = [part.strip() for part in t.graph.partition("(")[0].split("+")]
        small, large = (sum((f / f"{n}.onnx").stat().st_size for n in files) / 1024 for f in (bundle.path, fp32))
        milliseconds = (1000 * statistics.median(s) for s in (t.int8, t.fp32))
        print(
            f"| {t.graph} | {' | '.join(f'{m:.0f}' for m in milliseconds)} | {t.ratio:.2f} "
            f"| {small:.0f} | {large:.0f} | {large / small:.2f} |"
        )


def main() -> None:
    """Run both comparisons and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", default="brain-mri")
    parser.add_argument("--passes", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--provider", nargs="+", type=Provider, default=[], help="beside cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    bundle = next(b for b in installed(bundled_models()) if b.ref.name == args.bundle)
    prepared = head(bundle.manifest)
    if args.provider:
        for line in compare(bundle, args.provider, prepared, args.passes, args.threads):
            print(line, flush=True)
        return
    model = Model(bundle, threads=args.threads)
    before, explored = ours(model, prepared, args.passes)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    plain = naive(network(bundle.manifest), prepared, bundle.manifest, args.passes)
    after, _ = ours(model, prepared, args.passes)
    mine = (before + after) / 2
    print(f"### MC-dropout, {args.passes} passes over {' x '.join(map(str, SHAPE))}, {args.threads} threads\n")
    print("| | seconds | |\n|---|---|---|")
    print(f"| {args.passes} plain torch FP32 passes | {plain:.1f} | 1 |")
    print(f"| Overread, {bundle.ref.name} {bundle.ref.version} | {mine:.1f} | {plain / mine:.1f} times faster |")
    print(f"\nPasses ran where tumour is conceivable: {explored:.1%} of voxels. Peak memory {peak:.0f} MiB.")
    with tempfile.TemporaryDirectory() as scratch:
        folder = plain_graphs(bundle, Path(scratch))
        graphs_alone = replace(bundle.manifest, novelty="")
        fp32 = Model(replace(bundle, path=folder, manifest=graphs_alone, digests={}), threads=args.threads)
        report_graphs(bundle, folder, graphs(model, fp32, prepared))


if __name__ == "__main__":
    main()
