"""Small networks and studies for tests of export and shrinking: bright squares are tumour."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from training.data.sample import Sample
from training.network import MultitaskNet
from training.settings import AugmentSettings, NetworkSettings, Settings, StageSettings, load

CONFIG = Path(__file__).parents[1] / "training" / "configs" / "brain-mri.toml"
CHANNELS = 5


def small_settings(width: int = 32) -> Settings:
    """Return brain-mri's settings with a network of equal widths and small crops, as they are."""
    settings = load(CONFIG)
    network = NetworkSettings(widths=(width,) * 5, survival_width=width)
    stages = StageSettings(crop=32, batch=4)
    bundle = settings.bundle.model_copy(update={"passes": 2})
    changes = {"seed": 20260, "network": network, "stages": stages, "bundle": bundle, "threads": 1}
    return settings.model_copy(update={**changes, "augment": AugmentSettings(strength=0)})


def small_network(settings: Settings, seed: int = 1) -> MultitaskNet:
    """Return an untrained network whose BatchNorms have seen squares, so that every layer says something."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    net = MultitaskNet(CHANNELS, settings.network)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        for _ in range(2):
            net(torch.from_numpy(squares(6, 64, 64)), net.decoder_masks(1, 0.0))
    return net.eval()


def squares(n: int, rows: int, columns: int) -> NDArray[np.float32]:
    """Return input stacks (n, channels, rows, columns) of bright squares on noise."""
    image = np.random.default_rng(3).normal(scale=0.3, size=(n, CHANNELS, rows, columns))
    image[:, :, 8 : rows // 2 + 8, 8 : columns // 2 + 8] += 3
    return image.astype(np.float32)


def square_samples(count: int) -> list[Sample]:
    """Return studies of 6 slices of 32x32; every second one holds a bright square, and dies the sooner."""
    rng = np.random.default_rng(7)
    made = []
    for number in range(count):
        mask = np.zeros((6, 32, 32), np.uint8)
        if number % 2 == 0:
            mask[1:5, 8:24, 8:24] = 1
        image = rng.normal(scale=0.3, size=(1, 6, 32, 32)) + 3 * mask
        made.append(
            Sample(
                name=f"s{number}",
                source="squares",
                image=image.astype(np.float16),
                mask=mask,
                tumour=1 - number % 2,
                spacing=(3.0, 1.0, 1.0),
                patient=f"p{number}",
                time_days=100.0 + 400 * (number % 2) + number,
                event=1,
            )
        )
    return made
