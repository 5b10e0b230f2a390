"""A small untrained network, exported as a bundle is, for tests of what runs it."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from daemon.domain.model_bundle import BundleRef
from daemon.imaging.steps import Prepared
from daemon.imaging.volume import Grid
from daemon.inference.bundle import Bundle
from daemon.inference.session import Model
from tests.manifests import BRAIN
from training.export import Exported, export
from training.network import MultitaskNet
from training.settings import NetworkSettings

SHAPE = (6, 32, 48)


def network() -> MultitaskNet:
    """Return a network of the shipped size with fixed random weights, its BatchNorm statistics settled."""
    torch.manual_seed(5)
    net = MultitaskNet(5, NetworkSettings())
    with torch.no_grad():
        for _ in range(5):
            net(torch.randn(4, 5, 32, 48), net.decoder_masks(4, 0.0))
    return net.eval()


def stacks(count: int) -> list[NDArray[np.float32]]:
    """Return input stacks."""
    rng = np.random.default_rng(1)
    return [rng.standard_normal((2, 5, 32, 48)).astype(np.float32) for _ in range(count)]


def exported(folder: Path) -> tuple[MultitaskNet, Exported]:
    """Return the network and its graphs."""
    net = network()
    return net, export(net, stacks(4), folder)


def fp32_model(graphs: Exported) -> Model:
    """Return the FP32 graphs as a model."""
    folder = graphs.fp32["encoder"].parent
    ref = BundleRef(name="test", version="0", digest="0")
    return Model(Bundle(path=folder, manifest=BRAIN, ref=ref), threads=1)


def prepared() -> Prepared:
    """Return a prepared study of noise with a bright block."""
    array = np.random.default_rng(2).standard_normal((1, *SHAPE)).astype(np.float32)
    array[0, 2:4, 8:20, 8:20] += 4
    return Prepared(array=array, grid=Grid(size=SHAPE, spacing=(4.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0)))
