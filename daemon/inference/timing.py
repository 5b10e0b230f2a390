"""How long models take, against each other."""

import statistics
import time
from collections.abc import Sequence

import numpy as np

from daemon.inference.mc_dropout import CHUNK
from daemon.inference.session import Model

ROUNDS = 5
_SIDE = 256


def medians(models: Sequence[Model]) -> list[float]:
    """Return the median seconds that each model takes to encode and decode `CHUNK` slices of 256 x 256 by every member.

    The models are of one bundle. They run in turn, so that a busy machine slows all alike, after a round that does not
    count: some work out their kernels in it.
    """
    recipe, dropout = models[0].manifest.recipe, models[0].manifest.dropout
    channels = recipe.neighbours * len(recipe.channels)
    stack = np.random.default_rng(0).random((CHUNK, channels, _SIDE, _SIDE), dtype=np.float32)
    ones = {name: np.ones((1, width, 1, 1), np.float32) for name, width in dropout.decoder_masks.items()}
    seconds: list[list[float]] = [[] for _ in models]
    for _ in range(1 + ROUNDS):
        for model, spent in zip(models, seconds, strict=True):
            started = time.perf_counter()
            for member in model.members:
                member.decode(member.encode(stack), ones)
            spent.append(time.perf_counter() - started)
    return [statistics.median(spent[1:]) for spent in seconds]
