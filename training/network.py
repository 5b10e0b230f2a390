"""The multitask network: one encoder; an outline, a tumour probability and a survival risk.

A U-Net (Ronneberger et al. 2015) over five neighbouring slices. BatchNorm follows each convolution directly, so that
it folds; upsampling is nearest, so that it stays INT8. Dropout masks are inputs (docs/adr/0002).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.settings import NetworkSettings

Masks = Mapping[str, Tensor]


def block(inputs: int, outputs: int) -> nn.Sequential:
    """Return convolution, BatchNorm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class Encoder(nn.Module):
    """(n, channels, H, W) -> five maps, each half the size of the one before; H and W multiples of 16."""

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        inputs = (channels, *widths[:-1])
        self.levels = nn.ModuleList(
            nn.Sequential(block(i, o), block(o, o)) for i, o in zip(inputs, widths, strict=True)
        )
        self.pool = nn.MaxPool2d(2)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return f0..f4."""
        maps: list[Tensor] = []
        for level in self.levels:
            image = level(self.pool(image) if maps else image)
            maps.append(image)
        return tuple(maps)


class Decoder(nn.Module):
    """Five maps and five channel masks (1 or n, c, 1, 1) -> logits (n, 1, H, W)."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            block(widths[i + 1] + widths[i], widths[i]) for i in reversed(range(len(widths) - 1))
        )
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.last = nn.Conv2d(widths[0], 1, 1)

    def forward(self, maps: Sequence[Tensor], masks: Sequence[Tensor]) -> Tensor:
        """Return voxel logits; masks hold 0 or 1/(1-rate), all ones is the deterministic network."""
        below = maps[-1] * masks[-1]
        for level, skip, mask in zip(self.levels, reversed(maps[:-1]), reversed(masks[:-1]), strict=True):
            below = level(torch.cat((self.up(below), skip * mask), dim=1))
        logits: Tensor = self.last(below)
        return logits


class Heads(nn.Module):
    """All slices' f4 of one study -> class activation map, tumour logit, log hazard.

    The map is a 1x1 convolution of f4, so it explains the logit exactly (Zhou et al. 2016). The logit is the mean of
    the three highest slice maxima. Risk sees f4 pooled where the map is high, and the log of how much is high.
    """

    TOP = 3

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.detect = nn.Conv2d(width, 1, 1)
        self.scale = nn.LayerNorm(width)
        self.first = nn.Linear(width + 1, hidden)
        self.second = nn.Linear(hidden, 1)

    def forward(self, deepest: Tensor, h_detect: Tensor, h_survive: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return cam (n, 1, h, w), tumour_logit (1,), risk (1,) for f4 (n, c, h, w)."""
        cam = self.detect(deepest * h_detect)
        slices = cam.amax(dim=(1, 2, 3))
        tumour = slices.topk(self.TOP).values.mean().reshape(1)
        weight = torch.sigmoid(cam)
        amount = weight.sum()
        pooled = (deepest * weight).sum(dim=(0, 2, 3)) / (amount + 1e-3)
        features = torch.cat((self.scale(pooled), torch.log1p(amount).reshape(1)))
        hidden = torch.relu(self.first(features[None])) * h_survive
        return cam, tumour, self.second(hidden).reshape(1)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Parameter counts by part."""

    encoder: int
    decoder: int
    heads: int


class MultitaskNet(nn.Module):
    """Encoder, decoder and heads."""

    def __init__(self, channels: int, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = Encoder(channels, settings.widths)
        self.decoder = Decoder(settings.widths)
        self.heads = Heads(settings.widths[-1], settings.survival_width)

    def decoder_masks(self, n: int, rate: float, generator: torch.Generator | None = None) -> list[Tensor]:
        """Return m0..m4 for `n` samples: Bernoulli channel masks scaled by 1/(1-rate), or ones at rate 0."""
        return [channel_mask((n, width, 1, 1), rate, generator) for width in self.settings.widths]

    def forward(self, image: Tensor, masks: Sequence[Tensor]) -> Tensor:
        """Return voxel logits (n, 1, H, W)."""
        logits: Tensor = self.decoder(self.encoder(image), masks)
        return logits

    def parts(self) -> Parts:
        """Count the parameters of each part."""
        count = {name: sum(p.numel() for p in part.parameters()) for name, part in self.named_children()}
        return Parts(**count)


def channels_last(net: nn.Module) -> None:
    """Lay weights out as bf16 convolutions on CPU like them."""
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def contiguous(net: nn.Module) -> None:
    """Lay weights out as exporters like them."""
    net.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def channel_mask(shape: tuple[int, ...], rate: float, generator: torch.Generator | None = None) -> Tensor:
    """Return a dropout mask of 0 and 1/(1-rate)."""
    if rate == 0:
        return torch.ones(shape)
    keep = torch.rand(shape, generator=generator) >= rate
    return keep.float() / (1 - rate)
