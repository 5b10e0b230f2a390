"""Execution providers side by side, run by `python -m benchmarks.inference --provider openvino`.

Each runs in turn on the same head, so that a busy machine slows all alike; what counts is the median of ratios, of the
clock and of CPU seconds (which a GPU takes none of).
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from daemon.domain.provider import Provider
from daemon.imaging.steps import Prepared, neighbour_stack
from daemon.inference.agreement import dice, examine
from daemon.inference.bundle import Bundle
from daemon.inference.mc_dropout import CHUNK, Inference, infer
from daemon.inference.session import Model

ROUNDS = 9
WHOLE_ROUNDS = 3


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Seconds of one run, by the clock and of all cores."""

    clock: float
    cpu: float


def compare(bundle: Bundle, others: Sequence[Provider], prepared: Prepared, passes: int, threads: int) -> Iterator[str]:
    """Yield lines of Markdown: how long each provider takes for graphs and head, and what its answers differ by."""
    models = {p: Model(bundle, threads=threads, provider=p) for p in (Provider.CPU, *others)}
    yield f"### {bundle.ref.name} {bundle.ref.version} by provider, {threads} threads\n"
    yield "| | provider | ms | CPU ms | clock / cpu's | CPU seconds / cpu's |"
    yield "|---|---|---|---|---|---|"
    for name, run in _runs(models[Provider.CPU], prepared).items():
        yield from _rows(name, _turns(models, run, ROUNDS))
    answers: dict[Provider, Inference] = {}

    def whole(model: Model) -> None:
        answers[model.engine.provider] = infer(model, prepared, "benchmark", passes)

    yield from _rows(f"whole head, {passes} passes", _turns(models, whole, WHOLE_ROUNDS))
    yield from _differences(models, answers)


def _runs(first: Model, prepared: Prepared) -> dict[str, Callable[[Model], object]]:
    middle = np.arange(CHUNK) + prepared.array.shape[1] // 2
    stack = neighbour_stack(prepared.array, first.manifest.recipe, middle)
    maps = first.members[0].encode(stack)
    ones = {name: np.ones((1, w, 1, 1), np.float32) for name, w in first.manifest.dropout.decoder_masks.items()}
    return {
        f"encoder, {CHUNK} slices": lambda model: model.members[0].encode(stack),
        f"decoder, {CHUNK} slices": lambda model: model.members[0].decode(maps, ones),
    }


def _turns(
    models: Mapping[Provider, Model], run: Callable[[Model], object], rounds: int
) -> dict[Provider, list[Spent]]:
    spent: dict[Provider, list[Spent]] = {provider: [] for provider in models}
    for turn in range(rounds + 1):
        for provider, model in models.items():
            clock, cpu = time.perf_counter(), time.process_time()
            run(model)
            if turn:
                spent[provider].append(Spent(clock=time.perf_counter() - clock, cpu=time.process_time() - cpu))
    return spent


def _rows(name: str, spent: Mapping[Provider, list[Spent]]) -> Iterator[str]:
    base = spent[Provider.CPU]
    for provider, runs in spent.items():
        clocks, cpus = (
            [getattr(one, kind) / getattr(first, kind) for one, first in zip(runs, base, strict=True)]
            for kind in ("clock", "cpu")
        )
        milliseconds = [
            1000 * statistics.median(values) for values in zip(*((r.clock, r.cpu) for r in runs), strict=True)
        ]
        yield (
            f"| {name} | {provider} | {' | '.join(f'{m:.0f}' for m in milliseconds)} "
            f"| {statistics.median(clocks):.2f} | {statistics.median(cpus):.2f} |"
        )


def _differences(models: Mapping[Provider, Model], answers: Mapping[Provider, Inference]) -> Iterator[str]:
    first = answers[Provider.CPU]
    spreads = ", ".join(f"{np.std(values):.3f}" for values in (first.tumour_logits, first.risks))
    yield f"\nBetween the passes on the CPU tumour logit and risk have a SD of {spreads}.\n"
    for provider, model in models.items():
        placed = ", ".join(f"{nodes} nodes on {name}" for name, nodes in model.engine.placed.items())
        yield f"- {provider}: {examine(model).detail}{f'; {placed}' if placed else ''}"
        if provider is not Provider.CPU:
            threshold = model.manifest.calibration.mask_threshold
            other = answers[provider]
            outlines = dice(first.probability >= threshold, other.probability >= threshold)
            logit, risk = (
                abs(float(np.mean(a)) - float(np.mean(b)))
                for a, b in ((first.tumour_logits, other.tumour_logits), (first.risks, other.risks))
            )
            yield f"  The whole head: Dice {outlines:.4f}, mean tumour logit {logit:.3f} and risk {risk:.3f} apart."
