"""Structured pruning: whole channels leave, so that the network is smaller and faster on any runtime.

Channels that depend on each other leave together (dependency graph; Fang et al. 2023, DepGraph), those of least
magnitude first. A pruned network needs no file format of its own: the shapes in its state dict are its plan.
"""

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
import torch_pruning
from torch import Tensor, nn

from training.export import demand_slices
from training.network import MultitaskNet
from training.settings import NetworkSettings

# INT8 kernels want multiples of 8; those of 16 are faster still: 8 channels cost as much as 16 (docs).
MULTIPLE = 16
STEPS = 7


class _Traced(nn.Module):
    """All channels' dependencies as a graph that torch-pruning can follow.

    The survival head's pooling multiplies each map by the activation map's one channel, and one number is appended to
    what was pooled; both hide which channels belong together, so plain pooling stands in.
    """

    def __init__(self, net: MultitaskNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        net, heads = self.net, _layers(self.net.heads)
        maps = net.encoder(image)
        masks = net.decoder_masks(1, 0.0)
        pooled = heads["scale"](maps[-1].flatten(2).mean(dim=2))
        hidden = heads["first"](torch.cat((pooled, torch.ones(len(pooled), 1)), dim=1))
        return net.decoder(maps, masks), heads["detect"](maps[-1] * masks[-1]), heads["second"](torch.relu(hidden))


def _layers(module: nn.Module) -> dict[str, nn.Module]:
    """Return a module's layers by the last part of their names."""
    return {name.rpartition(".")[2]: layer for name, layer in module.named_modules()}


def prune(net: MultitaskNet, channels: int, ratio: float) -> MultitaskNet:
    """Return a copy of `net` without at least `ratio` of its parameters; every pruned width a multiple of 16.

    All layers lose about the same share of channels. What comes out has to be fine-tuned.

    Raises:
        ValueError: `ratio` is not within 0..1, or is more than widths of 16 can give.
    """
    if not 0 < ratio < 1:
        raise ValueError(f"the ratio {ratio:g} is not between 0 and 1; give the share of parameters to remove")
    limit = (1 - ratio) * parameters(net)
    low, high = 0.0, 1.0
    best: MultitaskNet | None = None
    for _ in range(STEPS):
        keep = (low + high) / 2
        tried = _keep(net, channels, keep)
        if parameters(tried) <= limit:
            low, best = keep, tried
        else:
            high = keep
    if best is None:
        fewest = parameters(_keep(net, channels, 0.0)) / parameters(net)
        raise ValueError(
            f"the ratio {ratio:g} is more than can be removed: with every width at {MULTIPLE}, {fewest:.2f} of the "
            f"parameters remain; give a ratio below {1 - fewest:.2f}"
        )
    return best


def _keep(net: MultitaskNet, channels: int, share: float) -> MultitaskNet:
    """Return a copy that keeps about `share` of each layer's channels."""
    pruned = copy.deepcopy(net).cpu().eval()
    for parameter in pruned.parameters():
        parameter.requires_grad_(True)
    graph = torch_pruning.DependencyGraph().build_dependency(_Traced(pruned), _example(pruned, channels))
    importance = torch_pruning.importance.GroupMagnitudeImportance(p=2)
    for group in list(graph.get_all_groups(ignored_layers=list(_answers(pruned)))):
        root, indices = group[0].dep.target.module, group[0].idxs
        surplus = len(indices) - target_width(len(indices), share)
        weakest = torch.argsort(importance(group))[:surplus].tolist()
        if weakest:
            graph.get_pruning_group(root, group[0].dep.handler, weakest).prune()
    pruned.zero_grad(set_to_none=True)
    return _describe(pruned, channels)


def target_width(width: int, share: float) -> int:
    """Return the multiple of 16 next to `share` of `width`, at least 16 and at most `width`."""
    return min(width, max(MULTIPLE, round(width * share / MULTIPLE) * MULTIPLE))


def _answers(net: MultitaskNet) -> Iterator[nn.Module]:
    """Yield the layers whose one output channel is an answer."""
    for module in net.modules():
        if getattr(module, "out_channels", getattr(module, "out_features", 0)) == 1:
            yield module


def parameters(net: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(p.numel() for p in net.parameters())


def restore(channels: int, settings: NetworkSettings, state: Mapping[str, Tensor]) -> MultitaskNet:
    """Return the network whose weights are `state`, pruned or not.

    Args:
        channels: input channels.
        settings: the unpruned network's.
        state: a state dict; its shapes say how wide each layer is.

    Raises:
        ValueError: the state dict is of another kind of network, or of one that is not exported.
    """
    demand_slices(settings)
    net = MultitaskNet(channels, settings)
    own = net.state_dict()
    if own.keys() != state.keys():
        odd = ", ".join(sorted(own.keys() ^ state.keys())[:3])
        raise ValueError(f"checkpoint and settings disagree on {odd}; give the settings that the network was made with")
    for name, values in state.items():
        path, _, leaf = name.rpartition(".")
        _put(net.get_submodule(path), leaf, values.detach().clone(memory_format=torch.contiguous_format))
    return _describe(net.eval(), channels)


def _put(module: nn.Module, leaf: str, values: Tensor) -> None:
    if leaf in dict(module.named_buffers(recurse=False)):
        module.register_buffer(leaf, values)
        return
    setattr(module, leaf, nn.Parameter(values))
    if leaf != "weight":
        return
    if isinstance(module, nn.Conv2d):
        module.out_channels, module.in_channels = values.shape[0], values.shape[1] * module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = values.shape
    elif isinstance(module, nn.BatchNorm2d):
        module.num_features = len(values)
    elif isinstance(module, nn.LayerNorm):
        module.normalized_shape = tuple(values.shape)


@torch.no_grad()
def _describe(net: MultitaskNet, channels: int) -> MultitaskNet:
    """Make the network's settings say its widths, since masks and manifest follow them."""
    widths = tuple(m.shape[1] for m in net.encoder(_example(net, channels)))
    update = {"widths": widths, "survival_width": len(_layers(net.heads)["first"].get_parameter("weight"))}
    net.settings = net.settings.model_copy(update=update)
    return net


def _example(net: MultitaskNet, channels: int) -> Tensor:
    side = 2 ** (len(net.settings.widths) - 1)
    return torch.zeros(1, channels, side, side)


def read(path: Path, channels: int, settings: NetworkSettings) -> MultitaskNet:
    """Return the network of a checkpoint, pruned or not.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is of another kind of network.
    """
    return restore(channels, settings, torch.load(path, weights_only=True))
