"""The network's parts, switches and sizes; its graphs against torch."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from pydantic import ValidationError

from tests.cohorts import tiny
from tests.networks import exported, stacks
from training.network import MultitaskNet, as_slices
from training.settings import NetworkSettings


def test_the_default_network_is_the_shipped_one() -> None:
    """Parameter counts by part are those of the shipped models."""
    counts = {count.part: count.parameters for count in MultitaskNet(5, NetworkSettings()).parts()}
    assert counts == {"encoder": 1180048, "decoder": 588017, "tumour": 257, "survival": 8801}


def test_frozen_parts_do_not_learn() -> None:
    """Only thawed parts have gradients, and a part whose task is off stays frozen when thawed."""
    net = MultitaskNet(1, NetworkSettings(widths=(4, 8), do_surv=False))
    net.thaw(("decoder", "survival"))
    learning = {name.split(".")[0] for name, p in net.named_parameters() if p.requires_grad}
    assert learning == {"decoder"}


@pytest.mark.parametrize(
    "settings",
    [
        NetworkSettings(widths=(4, 8)),
        NetworkSettings(widths=(4, 6, 8, 10, 12, 14), attention=True),
        NetworkSettings(widths=(4, 8, 12), encoder_convolutions=1, decoder_convolutions=3),
        NetworkSettings(widths=(4, 8, 12), spatial_dims=3, attention=True),
    ],
)
def test_depth_width_gates_and_dimensions_are_settings(settings: NetworkSettings) -> None:
    """Every size gives logits of the image's size, and heads of one number each."""
    net = MultitaskNet(2, settings)
    size = (32,) * settings.spatial_dims
    maps = net.encoder(torch.randn(2, 2, *size))
    assert [m.shape[-1] for m in maps] == [32 // 2**i for i in range(len(settings.widths))]
    assert net.decoder(maps, net.decoder_masks(2, 0.2)).shape == (2, 1, *size)
    cam, tumour, risk = net.judge(as_slices(maps[-1]), net.head_masks(0.2))
    assert (len(cam), tumour.shape, risk.shape) == (len(as_slices(maps[-1])), (1,), (1,))


def test_attention_gates_decide_what_passes() -> None:
    """With the gates shut, the skipped maps have no say; with none of them, they do."""
    net = MultitaskNet(1, NetworkSettings(widths=(4, 8), attention=True)).eval()
    assert net.decoder.gates is not None
    maps = net.encoder(torch.randn(1, 1, 16, 16))
    other = [torch.randn_like(maps[0]), maps[1]]
    masks = net.decoder_masks(1, 0.0)
    assert not torch.allclose(net.decoder(maps, masks), net.decoder(other, masks))
    with torch.no_grad():
        for name, value in net.decoder.gates.named_parameters():
            value.fill_(-1e4 if name.endswith("psi.1.bias") else 0.0)
    assert torch.allclose(net.decoder(maps, masks), net.decoder(other, masks))


def test_impossible_networks_are_refused() -> None:
    """No task, a crop that cannot be halved often enough, and neighbours in 3-D are errors that say what to set."""
    with pytest.raises(ValidationError, match="no task is on"):
        NetworkSettings(do_seg=False, do_cls=False, do_surv=False)
    with pytest.raises(ValidationError, match="multiples of 32"):
        tiny(network__widths=(4,) * 6, stages__crop=48)
    with pytest.raises(ValidationError, match=r"recipe.neighbours = 1"):
        tiny(network__spatial_dims=3)
    with pytest.raises(ValueError, match="no setting"):
        tiny(network__drop=0.1)


def test_graphs_say_what_torch_says(tmp_path: Path) -> None:
    """The FP32 graphs' maps, logits, activation map, tumour logit and risk are those of the network."""
    net, graphs = exported(tmp_path)
    image = stacks(1)[0]
    encoder, decoder, heads = (
        onnxruntime.InferenceSession(str(graphs.fp32[name]), providers=["CPUExecutionProvider"])
        for name in ("encoder", "decoder", "heads")
    )
    masks = net.decoder_masks(1, 0.3, torch.Generator().manual_seed(1))
    detect, survive = net.head_masks(0.3, torch.Generator().manual_seed(2))
    with torch.no_grad():
        maps = net.encoder(torch.from_numpy(image))
        logits = net.decoder(maps, masks)
        deepest = torch.cat((maps[-1], maps[-1] * 0.5))
        judged = net.heads(deepest, detect, survive)
    got = encoder.run(None, {"image": image})
    assert max(np.abs(a - b.numpy()).max() for a, b in zip(got, maps, strict=True)) < 1e-4
    feed = {**{f"f{i}": m for i, m in enumerate(got)}, **{f"m{i}": m.numpy() for i, m in enumerate(masks)}}
    assert np.abs(decoder.run(None, feed)[0] - logits.numpy()).max() < 1e-3
    said = heads.run(None, {"f4": deepest.numpy(), "h_detect": detect.numpy(), "h_survive": survive.numpy()})
    assert all(np.abs(a - b.numpy()).max() < 1e-3 for a, b in zip(said, judged, strict=True))
