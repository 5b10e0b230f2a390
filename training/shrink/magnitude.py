"""Magnitude pruning: single weights become zero. For study: neither file nor latency gain by it (docs)."""

import copy

import torch
from torch import nn
from torch.nn.utils import prune

from training.network import MultitaskNet, contiguous


def sparsify(net: MultitaskNet, share: float) -> MultitaskNet:
    """Return a copy of `net` with the smallest `share` of all convolutions' weights held at zero.

    Fine-tuning keeps them there; `settle` ends that.
    """
    sparse = copy.deepcopy(net)
    contiguous(sparse)
    weights = [(module, "weight") for module in _convolutions(sparse)]
    prune.global_unstructured(weights, pruning_method=prune.L1Unstructured, amount=share)
    return sparse


def settle(net: MultitaskNet) -> MultitaskNet:
    """Write the zeros into the weights, so that the state dict is a plain one again."""
    for module in _convolutions(net):
        prune.remove(module, "weight")
    return net


def sparsity(net: nn.Module) -> float:
    """Return the share of convolution weights that are zero."""
    weights = torch.cat([module.weight.detach().flatten() for module in _convolutions(net)])
    return float((weights == 0).float().mean())


def _convolutions(net: nn.Module) -> list[nn.Conv2d]:
    return [m for m in net.modules() if isinstance(m, nn.Conv2d)]
