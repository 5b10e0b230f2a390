"""A site's training between two rounds: outline and activation map on random windows of its own samples."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from daemon.imaging.steps import neighbour_stack
from training import losses
from training.data.sample import Sample
from training.field.federate import Report, Task
from training.network import MultitaskNet, channel_mask
from training.settings import Settings

TUMOUR_SHARE = 0.6


def outline_steps(task: Task) -> Report:
    """Train on the site's samples with a mask and write the weights; the only code that opens them.

    Raises:
        ValueError: no sample of the site has a mask.
    """
    torch.set_num_threads(1)
    torch.manual_seed(task.seed)
    samples = [s for s in (Sample.load(p) for p in sorted(task.site.glob("*.npz"))) if s.mask is not None]
    if not samples:
        raise ValueError(f"no sample of site {task.site.name} has a mask; harvest corrected outlines there")
    net = start(task)
    common = {name: weight.detach().clone() for name, weight in net.named_parameters()}
    optimiser = torch.optim.AdamW(net.parameters(), lr=task.settings.stages.learning_rate, weight_decay=1e-4)
    total = 0.0
    for image, mask in windows(samples, task.settings, task.plan.steps, task.seed):
        loss = _loss(net.train(), image, mask)
        # FedProx: what leaves the common weights costs.
        pull = sum(((w - common[n]) ** 2).sum() for n, w in net.named_parameters()) if task.plan.prox else 0.0
        optimiser.zero_grad()
        (loss + 0.5 * task.plan.prox * pull).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), task.settings.stages.clip)
        optimiser.step()
        total += float(loss.detach())
    torch.save(net.state_dict(), task.out)
    return Report(samples=len(samples), loss=total / task.plan.steps)


def start(task: Task) -> MultitaskNet:
    """Return the common network, with the site's own normalisation where it keeps that."""
    recipe = task.settings.recipe
    net = MultitaskNet(len(recipe.channels) * recipe.neighbours, task.settings.network)
    state = dict(torch.load(task.start, weights_only=True))
    if task.own:
        own = torch.load(task.own, weights_only=True)
        state |= {name: own[name] for name in normalisation(net)}
    net.load_state_dict(state)
    return net


def normalisation(net: nn.Module) -> list[str]:
    """Return the names of all BatchNorm weights and statistics."""
    layers = [(n, m) for n, m in net.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]  # noqa: SLF001  # torch has no public name for all of them
    return [f"{prefix}.{name}" for prefix, layer in layers for name in layer.state_dict()]


def windows(samples: Sequence[Sample], settings: Settings, steps: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images (n, channels x neighbours, crop, crop) and masks (n, 1, crop, crop), most around tumour."""
    rng = np.random.Generator(np.random.Philox(seed))
    for _ in range(steps):
        pairs = [_window(samples[int(rng.integers(len(samples)))], settings, rng) for _ in range(settings.stages.batch)]
        yield torch.from_numpy(np.stack([i for i, _ in pairs])), torch.from_numpy(np.stack([m for _, m in pairs]))


def _window(
    sample: Sample, settings: Settings, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    mask = np.zeros(sample.image.shape[1:], np.uint8) if sample.mask is None else sample.mask
    marked = np.argwhere(mask)
    if len(marked) and rng.random() < TUMOUR_SHARE:
        centre = marked[int(rng.integers(len(marked)))]
    else:
        centre = np.array([int(rng.integers(n)) for n in mask.shape])
    crop = settings.stages.crop
    stack = neighbour_stack(sample.image, settings.recipe, centre[:1])[0].astype(np.float32)
    drawn = mask[centre[0]][None].astype(np.float32)
    edge = crop // 2
    around = [(0, 0), (edge, edge), (edge, edge)]
    image = np.pad(stack, around, constant_values=float(stack.min()))
    truth = np.pad(drawn, around)
    part = (slice(None), slice(centre[1], centre[1] + crop), slice(centre[2], centre[2] + crop))
    step = -1 if rng.random() < 0.5 else 1
    return np.ascontiguousarray(image[part][..., ::step]), np.ascontiguousarray(truth[part][..., ::step])


def _loss(net: MultitaskNet, image: Tensor, mask: Tensor) -> Tensor:
    rate, widths = net.settings.dropout, net.settings.widths
    maps = net.encoder(image)
    logits = net.decoder(maps, net.decoder_masks(len(image), rate))
    seen = channel_mask((1, widths[-1], 1, 1), rate), torch.ones(1, net.settings.survival_width)
    # The head judges studies, of three slices or more; the map of each slice does not depend on the others.
    cam = net.heads(maps[-1].repeat(3, 1, 1, 1), *seen)[0][: len(image)]
    return losses.dice_bce(logits, mask) + losses.focal_tversky(logits, mask) + 0.5 * losses.cells(cam, mask)
