"""Quantisation-aware training: the network feels INT8's rounding while it learns (Jacob et al. 2018).

What is rounded is what `training.export` quantises: weights S8 per channel, inputs of convolutions and outputs of ReLUs
U8 by the batch's own minimum and maximum; heads and the last convolution stay as they are. Gradients pass straight
through. Rounding before BatchNorm is rounding after its folding, since a channel's scale follows its factor.
`torch.ao.quantization` is deprecated and leaves a graph of its own, not this QDQ form.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from training.network import MultitaskNet

U8 = (0, 255)
S8 = (-127, 127)
TINY = 1e-8


@contextmanager
def fake_quantised(net: MultitaskNet) -> Iterator[MultitaskNet]:
    """Let `net` round weights and activations as INT8 does, until the context ends."""
    convolutions = [m for part in (net.encoder, net.decoder) for m in part.modules() if isinstance(m, nn.Conv2d)]
    rounded = [m for m in convolutions if m is not net.decoder.last]
    answers = [m for part in (net.encoder, net.decoder) for m in part.modules() if isinstance(m, nn.ReLU)]
    hooks = [m.register_forward_pre_hook(_round_input) for m in rounded]
    hooks += [m.register_forward_hook(_round_output) for m in answers]
    for module in rounded:
        parametrize.register_parametrization(module, "weight", _Rounded())
    try:
        yield net
    finally:
        for hook in hooks:
            hook.remove()
        for module in rounded:
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)


class _Rounded(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        scale = weight.detach().abs().flatten(1).amax(dim=1).clamp_min(TINY) / S8[1]
        zero = torch.zeros(len(weight), dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, *S8)


def _round_input(_module: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    return _rounded(inputs[0])


def _round_output(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return _rounded(output)


def _rounded(values: Tensor) -> Tensor:
    low, high = values.detach().min().clamp_max(0), values.detach().max().clamp_min(0)
    scale = ((high - low) / U8[1]).clamp_min(TINY)
    zero = (-low / scale).round().to(torch.int32)
    return torch.fake_quantize_per_tensor_affine(values, scale, zero, *U8)
