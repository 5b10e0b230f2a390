"""Grad-CAM (Selvaraju et al. 2017) on the encoder's levels, of the tumour score and of the outline.

The outline's is Seg-Grad-CAM (Vinogradova et al. 2020): the gradient of the summed logits of the outlined pixels.
"""

import pickle
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import torch
from captum.attr import LayerAttribution, LayerGradCam
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional

from daemon.domain.model_bundle import Recipe
from daemon.imaging.steps import neighbour_stack
from training.network import MultitaskNet
from training.settings import Settings, load

Plane = NDArray[np.float32]
TOP = 3
ALL, DEEPEST = slice(None), slice(-1, None)


class Target(StrEnum):
    """What is explained."""

    TUMOUR = "tumour score"
    OUTLINE = "outline"


def load_network(checkpoint: Path, config: Path) -> tuple[MultitaskNet, Settings]:
    """Return a trained stage's network in evaluation mode, and its settings.

    Raises:
        FileNotFoundError: one of the files is not there.
        ValueError: the checkpoint holds no weights of a network with these settings, or the settings are invalid.
    """
    try:
        settings = load(config)
    except (ValidationError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{config} is no settings file: {error}; give the run's own") from error
    net = MultitaskNet(len(settings.recipe.channels) * settings.recipe.neighbours, settings.network)
    try:
        net.load_state_dict(torch.load(checkpoint, weights_only=True, map_location="cpu"))
    except (RuntimeError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"{checkpoint} does not fit the network of {config} ({str(error).splitlines()[0]}); give the settings that "
            "the stage was trained with"
        ) from error
    if next(net.encoder.parameters()).ndim != 4:
        raise ValueError(
            f"{config} is of a 3-D network; Grad-CAM here reads slices, so explain it without a checkpoint"
        )
    return net.eval(), settings


def randomised(net: MultitaskNet, seed: int) -> MultitaskNet:
    """Return the same network with untrained weights: what a map that says nothing scores (Adebayo et al. 2018)."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        first = next(iter(net.encoder.parameters()))
        return MultitaskNet(first.shape[1], net.settings).eval()


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """What the network sees of a slice: `stack` (1, channels x neighbours, H, W), padded; `size` is unpadded."""

    stack: Tensor
    size: tuple[int, int]

    @classmethod
    def of(cls, image: NDArray[np.float16], at: int, recipe: Recipe) -> "View":
        """Return slice `at` of a sample's image (channels, slices, rows, columns) as `recipe` stacks it."""
        stack = torch.from_numpy(neighbour_stack(image.astype(np.float32), recipe, np.array([at])))
        rows, columns = stack.shape[-2:]
        short = (0, -columns % recipe.multiple, 0, -rows % recipe.multiple)
        padded = functional.pad(stack, short, value=float(image.min()))
        return cls(stack=padded, size=(rows, columns))


def grad_cams(net: MultitaskNet, view: View, target: Target, levels: slice = ALL) -> list[Plane]:
    """Return one map (rows, columns) >= 0 for each of the encoder's `levels`, finest first."""
    rows, columns = view.size
    maps = []
    for level in list(net.encoder.levels)[levels]:
        raw = LayerGradCam(_score(net, target), level).attribute(view.stack.clone().requires_grad_())
        large = LayerAttribution.interpolate(raw.detach(), view.stack.shape[-2:], "bilinear")
        maps.append(np.asarray(functional.relu(large)[0, 0, :rows, :columns].numpy(), dtype=np.float32))
    return maps


def _score(net: MultitaskNet, target: Target) -> Callable[[Tensor], Tensor]:
    def tumour(stack: Tensor) -> Tensor:
        # The head ranks the slices of a study; of one slice, shown as often as it ranks, its score is left.
        deepest = net.encoder(stack)[-1].expand(TOP, -1, -1, -1)
        masks = torch.ones(1, deepest.shape[1], 1, 1), torch.ones(1, net.settings.survival_width)
        score: Tensor = net.heads(deepest, *masks)[1]
        return score

    def outline(stack: Tensor) -> Tensor:
        logits = net(stack, net.decoder_masks(len(stack), 0.0))
        # With nothing outlined the most suspicious pixel is what there is to explain.
        chosen = (logits > 0) | (logits == logits.amax(dim=(1, 2, 3), keepdim=True))
        return (logits * chosen).sum(dim=(1, 2, 3))

    return tumour if target is Target.TUMOUR else outline
