"""The multitask network: one encoder; an outline, a tumour probability and a survival risk.

A U-Net (Ronneberger et al. 2015) over neighbouring slices or, at `spatial_dims` 3, over volumes. BatchNorm follows each
convolution directly, so that it folds; upsampling is nearest, so that it stays INT8. Dropout masks are inputs
(docs/adr/0002).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from monai.networks.layers.factories import Conv, Norm, Pool
from monai.networks.nets.attentionunet import AttentionBlock
from torch import Tensor, nn

from training.settings import NetworkSettings

Masks = Mapping[str, Tensor]
Part = Literal["encoder", "decoder", "tumour", "survival"]
PARTS: tuple[Part, ...] = ("encoder", "decoder", "tumour", "survival")


def block(inputs: int, outputs: int, dims: int = 2) -> nn.Sequential:
    """Return convolution, BatchNorm and ReLU."""
    return nn.Sequential(
        Conv["conv", dims](inputs, outputs, 3, padding=1, bias=False),
        Norm["batch", dims](outputs),
        nn.ReLU(inplace=True),
    )


def blocks(inputs: int, outputs: int, count: int, dims: int) -> nn.Sequential:
    """Return `count` blocks in a row."""
    return nn.Sequential(*(block(inputs if i == 0 else outputs, outputs, dims) for i in range(count)))


class Encoder(nn.Module):
    """(n, channels, H, W) -> one map a level, each half the size of the one before.

    H and W (and D, for volumes) are multiples of 2 to the power of levels - 1.
    """

    def __init__(self, channels: int, settings: NetworkSettings) -> None:
        super().__init__()
        dims, widths = settings.spatial_dims, settings.widths
        inputs = (channels, *widths[:-1])
        self.levels = nn.ModuleList(
            blocks(i, o, settings.encoder_convolutions, dims) for i, o in zip(inputs, widths, strict=True)
        )
        self.pool = Pool["max", dims](2)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return f0..fN."""
        maps: list[Tensor] = []
        for level in self.levels:
            image = level(self.pool(image) if maps else image)
            maps.append(image)
        return tuple(maps)


class Decoder(nn.Module):
    """Maps f0..fN and channel masks m0..mN (1 or n, c, 1, 1) -> logits (n, 1, H, W).

    With attention gates (Oktay et al. 2018) the map from below decides which of the skipped map passes.
    """

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        dims, widths = settings.spatial_dims, settings.widths
        deep = list(reversed(range(len(widths) - 1)))
        self.levels = nn.ModuleList(
            blocks(widths[i + 1] + widths[i], widths[i], settings.decoder_convolutions, dims) for i in deep
        )
        self.gates = nn.ModuleList(
            AttentionBlock(dims, f_int=max(widths[i] // 2, 1), f_g=widths[i + 1], f_l=widths[i]) for i in deep
        ) if settings.attention else None  # fmt: skip
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.last = Conv["conv", dims](widths[0], 1, 1)

    def forward(self, maps: Sequence[Tensor], masks: Sequence[Tensor]) -> Tensor:
        """Return voxel logits; masks hold 0 or 1/(1-rate), all ones is the deterministic network."""
        below = maps[-1] * masks[-1]
        for i, (level, skip, mask) in enumerate(zip(self.levels, maps[-2::-1], masks[-2::-1], strict=True)):
            raised = self.up(below)
            passed = skip * mask if self.gates is None else self.gates[i](raised, skip * mask)
            below = level(torch.cat((raised, passed), dim=1))
        logits: Tensor = self.last(below)
        return logits


class TumourHead(nn.Module):
    """All slices of one study's deepest map -> class activation map and tumour logit.

    The map is a 1x1 convolution, so it explains the logit exactly (Zhou et al. 2016). The logit is the mean of the
    three highest slice maxima.
    """

    TOP = 3

    def __init__(self, width: int) -> None:
        super().__init__()
        self.detect = nn.Conv2d(width, 1, 1)

    def forward(self, deepest: Tensor, h_detect: Tensor) -> tuple[Tensor, Tensor]:
        """Return cam (n, 1, h, w) and tumour_logit (1,) for the deepest map (n, c, h, w)."""
        cam = self.detect(deepest * h_detect)
        return cam, cam.amax(dim=(1, 2, 3)).topk(self.TOP).values.mean().reshape(1)


class SurvivalHead(nn.Module):
    """Deepest map and activation map -> log hazard.

    It sees the deepest map pooled where the activation map is high, and the log of how much is high.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.scale = nn.LayerNorm(width)
        self.first = nn.Linear(width + 1, hidden)
        self.second = nn.Linear(hidden, 1)

    def forward(self, deepest: Tensor, cam: Tensor, h_survive: Tensor) -> Tensor:
        """Return risk (1,) for the deepest map (n, c, h, w) and cam (n, 1, h, w)."""
        weight = torch.sigmoid(cam)
        amount = weight.sum()
        pooled = (deepest * weight).sum(dim=(0, 2, 3)) / (amount + 1e-3)
        features = torch.cat((self.scale(pooled), torch.log1p(amount).reshape(1)))
        risk: Tensor = self.second(torch.relu(self.first(features[None])) * h_survive)
        return risk.reshape(1)


class Heads(nn.Module):
    """Tumour head, and the survival head that looks where the tumour head does."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.tumour = TumourHead(width)
        self.survival = SurvivalHead(width, hidden)

    def forward(self, deepest: Tensor, h_detect: Tensor, h_survive: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return cam (n, 1, h, w), tumour_logit (1,), risk (1,) for all slices' deepest map (n, c, h, w)."""
        cam, tumour = self.tumour(deepest, h_detect)
        return cam, tumour, self.survival(deepest, cam, h_survive)


@dataclass(frozen=True, kw_only=True)
class PartCount:
    """A part's parameters, and whether its task is switched on."""

    part: Part
    parameters: int
    used: bool


class MultitaskNet(nn.Module):
    """Encoder, decoder and heads.

    A part whose task is switched off (`do_seg`, `do_cls`, `do_surv`) is built, so that graphs and seeds stay the same,
    but it is never trained.
    """

    def __init__(self, channels: int, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = Encoder(channels, settings)
        self.decoder = Decoder(settings)
        self.heads = Heads(settings.widths[-1], settings.survival_width)

    def part(self, name: Part) -> nn.Module:
        """Return a part by its name."""
        heads = {"tumour": self.heads.tumour, "survival": self.heads.survival}
        return {"encoder": self.encoder, "decoder": self.decoder, **heads}[name]

    def thaw(self, parts: Iterable[Part]) -> None:
        """Let `parts` learn and freeze all others; a part whose task is off stays frozen."""
        learning = set(parts) & set(self.used())
        for name in PARTS:
            self.part(name).requires_grad_(name in learning)

    def used(self) -> tuple[Part, ...]:
        """Return the parts that the switched-on tasks need."""
        tasks = self.settings
        wanted = {"encoder": True, "decoder": tasks.do_seg, "tumour": tasks.needs_map, "survival": tasks.do_surv}
        return tuple(name for name in PARTS if wanted[name])

    def decoder_masks(self, n: int, rate: float, generator: torch.Generator | None = None) -> list[Tensor]:
        """Return m0..mN for `n` samples: Bernoulli channel masks scaled by 1/(1-rate), or ones at rate 0."""
        device = next(self.parameters()).device
        ones = (1,) * self.settings.spatial_dims
        return [channel_mask((n, width, *ones), rate, generator).to(device) for width in self.settings.widths]

    def head_masks(self, rate: float, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return h_detect and h_survive."""
        device = next(self.parameters()).device
        shapes = ((1, self.settings.widths[-1], 1, 1), (1, self.settings.survival_width))
        detect, survive = (channel_mask(shape, rate, generator).to(device) for shape in shapes)
        return detect, survive

    def forward(self, image: Tensor, masks: Sequence[Tensor]) -> Tensor:
        """Return voxel logits (n, 1, H, W)."""
        logits: Tensor = self.decoder(self.encoder(image), masks)
        return logits

    def judge(self, deepest: Tensor, masks: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return cam, tumour_logit and risk of one study's slices (n, c, h, w), however few.

        A study of fewer slices than the tumour head ranks repeats its first.
        """
        short = TumourHead.TOP - len(deepest)
        whole = deepest if short <= 0 else torch.cat((deepest, deepest[:1].expand(short, -1, -1, -1)))
        cam, tumour, risk = self.heads(whole, *masks)
        return cam[: len(deepest)], tumour, risk

    def parts(self) -> tuple[PartCount, ...]:
        """Count the parameters of each part."""
        used = self.used()
        return tuple(
            PartCount(part=name, parameters=sum(p.numel() for p in self.part(name).parameters()), used=name in used)
            for name in PARTS
        )


def as_slices(deepest: Tensor) -> Tensor:
    """Return a deepest map as slices (n, c, h, w), which the heads read; (n, c, d, h, w) becomes (n x d, c, h, w)."""
    return deepest if deepest.ndim == 4 else deepest.transpose(1, 2).flatten(0, 1)


def channels_last(net: nn.Module) -> None:
    """Lay weights out as bf16 convolutions of slices on CPU like them.

    Volumes stay as they are.
    """
    for parameter in net.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def contiguous(net: nn.Module) -> None:
    """Lay weights out as exporters like them."""
    net.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def channel_mask(shape: tuple[int, ...], rate: float, generator: torch.Generator | None = None) -> Tensor:
    """Return a dropout mask of 0 and 1/(1-rate)."""
    if rate == 0:
        return torch.ones(shape)
    keep = torch.rand(shape, generator=generator) >= rate
    return keep.float() / (1 - rate)
