"""Pruning, distillation, quantisation-aware training and the benchmark, on small networks."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import typer
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn
from typer.testing import CliRunner

from tests.small_networks import CHANNELS, CONFIG, small_network, small_settings, square_samples, squares
from training.commands.shrink import benchmark as benchmark_command
from training.commands.shrink import shrink as shrink_command
from training.export import calibration_stacks, export
from training.network import MultitaskNet
from training.predictions import Prediction
from training.seal import manifest, unsealed
from training.shrink import magnitude
from training.shrink.benchmark import Load, accuracy, benchmark
from training.shrink.distil import Pair, Tuning, answer, distil
from training.shrink.fake_quant import fake_quantised
from training.shrink.pipeline import MADE_OF, PRECISIONS, Data, Plan, checkpoint, read, settings_of, shrink
from training.shrink.structure import parameters, prune, restore, target_width

SETTINGS = small_settings()
TUNING = Tuning(steps=4, head_epochs=1, learning_rate=1e-3, bf16=False, save_every=2)


@pytest.fixture
def net() -> MultitaskNet:
    return small_network(SETTINGS)


def logits(net: MultitaskNet) -> torch.Tensor:
    """Return what a network says of a fixed image."""
    image = torch.randn(3, CHANNELS, 32, 48, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        return net(image, net.decoder_masks(1, 0.0))


def test_widths_end_as_multiples() -> None:
    """The nearest multiple of 16, never none, never more than there was."""
    assert [target_width(w, s) for w, s in ((256, 0.7), (32, 0.2), (16, 0.1), (12, 0.5), (48, 1.0))] == [
        176, 16, 16, 12, 48
    ]  # fmt: skip


def test_pruning_reaches_its_ratio_and_the_shapes_are_the_plan(net: MultitaskNet) -> None:
    """At least that share of parameters is gone; masks follow; the state dict alone rebuilds the network."""
    pruned = prune(net, CHANNELS, 0.5)
    assert parameters(pruned) <= 0.5 * parameters(net)
    assert pruned.settings.widths == (16,) * 5
    assert pruned.settings.survival_width == 16
    assert all(m.out_channels in {1, 16} for m in pruned.modules() if isinstance(m, nn.Conv2d))
    again = restore(CHANNELS, SETTINGS.network, pruned.state_dict())
    assert again.settings == pruned.settings
    assert torch.equal(logits(again), logits(pruned))


def test_channels_that_say_nothing_leave_first(net: MultitaskNet) -> None:
    """A network with every second channel silent is the same function after half of its channels left."""
    for module in [*net.encoder.modules(), *net.decoder.modules()]:
        if isinstance(module, nn.Conv2d) and module is not net.decoder.last:
            module.weight.data[::2] = 0
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean, module.running_var = torch.zeros(32), torch.ones(32)
    pruned = prune(net, CHANNELS, 0.5)
    assert torch.allclose(logits(pruned), logits(net), atol=1e-4)
    assert logits(net).std() > 1e-3


@pytest.mark.parametrize(("ratio", "said"), [(0.0, "between 0 and 1"), (0.95, "more than can be removed")])
def test_ratios_that_cannot_be(net: MultitaskNet, ratio: float, said: str) -> None:
    """The error names the ratio and what would do."""
    with pytest.raises(ValueError, match=said):
        prune(net, CHANNELS, ratio)


def test_a_checkpoint_of_another_network_is_refused(net: MultitaskNet) -> None:
    """The error names what differs."""
    state = {name: values for name, values in net.state_dict().items() if name != "decoder.last.bias"}
    with pytest.raises(ValueError, match=r"decoder\.last\.bias"):
        restore(CHANNELS, SETTINGS.network, state)


def test_magnitude_pruning_keeps_its_zeros_while_learning(net: MultitaskNet, tmp_path: Path) -> None:
    """The smallest half is zero, stays so through fine-tuning, and the state dict is a plain one at the end."""
    sparse = magnitude.sparsify(net, 0.5)
    before = logits(sparse)
    learnt = magnitude.settle(
        distil(Pair(teacher=net, student=sparse), square_samples(4), SETTINGS, TUNING, tmp_path / "s.pt")
    )
    assert magnitude.sparsity(learnt) == pytest.approx(0.5, abs=0.01)
    assert learnt.state_dict().keys() == net.state_dict().keys()
    assert not torch.equal(logits(learnt), before)
    assert magnitude.sparsity(net) == 0


def distance(teacher: MultitaskNet, student: MultitaskNet) -> float:
    """Return how far apart activation maps (in probability) and risks of squares are."""
    generator, image = torch.Generator(), torch.from_numpy(squares(6, 32, 32))
    with torch.no_grad():
        said, told = (answer(n, image, 0.0, generator) for n in (student, teacher))
    return float((said.cam.sigmoid() - told.cam.sigmoid()).abs().mean() + (said.risk - told.risk).abs().mean())


def test_a_student_comes_nearer_to_its_teacher(net: MultitaskNet, tmp_path: Path) -> None:
    """Activation map and risk of a pruned network approach the unpruned one's."""
    student = prune(net, CHANNELS, 0.5)
    before = distance(net, student)
    tuning = Tuning(steps=20, head_epochs=10, learning_rate=3e-3, bf16=False)
    distil(Pair(teacher=net, student=student), square_samples(4), SETTINGS, tuning, tmp_path / "s.pt")
    assert distance(net, student) < 0.7 * before


def test_thin_studies_teach_the_student_too(net: MultitaskNet, tmp_path: Path) -> None:
    """A picture among the samples, and batches of fewer crops than the tumour head ranks, are no error."""
    first, *others = square_samples(3)
    assert first.mask is not None
    picture = replace(first, image=first.image[:, 2:3], mask=first.mask[2:3])
    settings = SETTINGS.changed({"stages.batch": 2})
    pair = Pair(teacher=net, student=prune(net, CHANNELS, 0.5))
    learnt = distil(pair, [picture, *others], settings, TUNING, tmp_path / "s.pt")
    assert torch.isfinite(logits(learnt)).all()


def test_resumed_equals_uninterrupted(net: MultitaskNet, tmp_path: Path) -> None:
    """A run stopped in its third step ends at the same bits; one with other settings is not taken up."""
    whole = prune(net, CHANNELS, 0.5)
    stopped, resumed = copy.deepcopy(whole), copy.deepcopy(whole)
    samples = square_samples(4)
    distil(Pair(teacher=net, student=whole), samples, SETTINGS, TUNING, tmp_path / "whole.pt")
    calls = []

    def stop(*_: object) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise InterruptedError

    stopped.decoder.register_forward_hook(stop)
    with pytest.raises(InterruptedError):
        distil(Pair(teacher=net, student=stopped), samples, SETTINGS, TUNING, tmp_path / "s.pt")
    distil(Pair(teacher=net, student=resumed), samples, SETTINGS, TUNING, tmp_path / "s.pt")
    for name, values in whole.state_dict().items():
        assert torch.equal(values, resumed.state_dict()[name]), name
    other = Tuning(steps=9, head_epochs=1, learning_rate=1e-3)
    with pytest.raises(ValueError, match="other settings"):
        distil(Pair(teacher=net, student=resumed), samples, SETTINGS, other, tmp_path / "s.pt")


def test_fake_quantisation_rounds_as_int8_does(net: MultitaskNet, tmp_path: Path) -> None:
    """Weights are the INT8 graph's own, the noise is as strong as its noise, and afterwards no bit has changed."""
    stacks = calibration_stacks(square_samples(2), SETTINGS.recipe, 1)[:1]
    image, ones = torch.from_numpy(stacks[0]), net.decoder_masks(1, 0.0)
    exported = export(net, stacks, tmp_path / "g").shipped
    (member,) = unsealed(SETTINGS, [exported], tmp_path / "m").members
    int8 = member.decode(member.encode(stacks[0]), {f"m{i}": m.numpy() for i, m in enumerate(ones)})
    before = {name: values.clone() for name, values in net.state_dict().items()}
    first, norm = net.encoder.get_submodule("levels.0.0.0"), net.encoder.get_submodule("levels.0.0.1")
    assert isinstance(first, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_var is not None
    with torch.no_grad():
        fp32 = net(image, ones)[:, 0].numpy()
        with fake_quantised(net):
            fake = net(image, ones)[:, 0].numpy()
            folded = first.weight * (norm.weight / torch.sqrt(norm.running_var + norm.eps)).reshape(-1, 1, 1, 1)
    assert np.abs(folded.numpy() - first_weights(exported["encoder"])).max() < 1e-6
    assert 0.6 < np.abs(fake - fp32).mean() / np.abs(int8 - fp32).mean() < 1.6
    assert all(torch.equal(values, before[name]) for name, values in net.state_dict().items())


def first_weights(path: Path) -> NDArray[np.float32]:
    """Return the weights of an INT8 graph's first convolution, dequantised."""
    graph = onnx.load(path).graph
    stored = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    makers = {node.output[0]: node for node in graph.node}
    convolution = next(node for node in graph.node if node.op_type == "Conv")
    values, scale = makers[convolution.input[1]].input[:2]
    return np.asarray(stored[values] * stored[scale].reshape(-1, 1, 1, 1), dtype=np.float32)


def test_gradients_pass_the_rounding(net: MultitaskNet) -> None:
    """Every rounded weight learns."""
    with fake_quantised(net):
        net(torch.randn(2, CHANNELS, 32, 32), net.decoder_masks(1, 0.0)).square().mean().backward()
        weights = [p for name, p in net.named_parameters() if name.endswith("weight.original")]
    assert len(weights) == 14
    assert all(w.grad is not None and w.grad.abs().sum() > 0 for w in weights)


def test_pruned_graphs_run_in_the_daemon(net: MultitaskNet, tmp_path: Path) -> None:
    """The manifest's masks have the pruned widths, and dropout still makes the passes differ."""
    pruned = prune(net, CHANNELS, 0.5)
    settings = settings_of(SETTINGS, pruned)
    dropout = manifest(settings).dropout
    assert set(dropout.decoder_masks.values()) == {16}
    assert dropout.head_masks == {"h_detect": 16, "h_survive": 16}
    samples = square_samples(2)
    export(pruned, calibration_stacks(samples, SETTINGS.recipe, 1), tmp_path / "graphs")
    for precision in PRECISIONS:
        found = read(settings, tmp_path / "graphs" / precision, samples, tmp_path, 4)
        assert all(len(set(p.risks.tolist())) > 1 for p in found)


def test_variants_are_made_and_measured(net: MultitaskNet, tmp_path: Path) -> None:
    """Shrink leaves what benchmark reads: pruned and INT8 are smaller, and the JSON holds every row.

    The zeros of an INT8 that had to be trained for are those of the network that it was made of.
    """
    samples = square_samples(4)
    plan = Plan(ratio=0.5, tuning=TUNING, study=True, passes=2)
    shrink(SETTINGS, net, Data(train=samples, tune=samples[:2]), plan, tmp_path)
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.onnx")}
    shrink(SETTINGS, net, Data(train=samples, tune=samples[:2]), plan, tmp_path)
    assert stamps == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.onnx")}
    rows = {r.name: r for r in benchmark(SETTINGS, tmp_path, samples, Load(rounds=3, plane=(32, 48), passes=2))}
    assert list(rows) == [f"{v} {p}" for v in ("original", "pruned", "magnitude") for p in PRECISIONS]
    assert rows["original fp32"].smaller == 1
    assert rows["pruned int8"].smaller > rows["original int8"].smaller > 1.5
    assert rows["magnitude int8"].smaller == pytest.approx(rows["original int8"].smaller, rel=0.02)
    assert rows["magnitude int8"].sparsity == pytest.approx(0.5, abs=0.01)
    assert all(s.ms > 0 and s.low <= s.ms <= s.high for r in rows.values() for s in r.speed.values())
    document = json.loads((tmp_path / "shrink.json").read_text())
    assert [r["name"] for r in document["rows"]] == list(rows)
    assert document["rows"][0]["accuracy"]["sources"] == ["squares"]
    assert (tmp_path / "shrink.png").stat().st_size > 10_000
    torch.save(net.state_dict(), tmp_path / "magnitude" / "aware-network.pt")
    again = {r.name: r for r in benchmark(SETTINGS, tmp_path, [], Load(rounds=1, plane=(32, 48)))}
    assert again["magnitude fp32"].sparsity == rows["magnitude fp32"].sparsity
    assert again["magnitude int8"].sparsity == 0


def test_variants_of_something_else_are_refused(net: MultitaskNet, tmp_path: Path) -> None:
    """Another teacher, ratio, tuning, sample or seed is named; an unreachable ratio claims nothing."""
    short = replace(TUNING, steps=1, head_epochs=0)
    samples, plan = square_samples(4), Plan(ratio=0.5, tuning=short, passes=2)
    data = Data(train=samples, tune=samples[:2])
    with pytest.raises(ValueError, match="more than can be removed"):
        shrink(SETTINGS, net, data, replace(plan, ratio=0.95), tmp_path)
    assert not any(tmp_path.iterdir())
    for name in ("original", "pruned"):
        (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=f"variants without {MADE_OF}"):
        shrink(SETTINGS, net, data, plan, tmp_path)
    shrink(SETTINGS, net, data, plan, tmp_path / "made")
    other = SETTINGS.model_copy(update={"seed": 1})
    for settings, teacher, changed, wanted, what in (
        (SETTINGS, small_network(SETTINGS, 2), data, plan, "teacher"),
        (SETTINGS, net, data, replace(plan, ratio=0.3), "plan"),
        (SETTINGS, net, data, replace(plan, tuning=TUNING), "plan"),
        (SETTINGS, net, Data(train=samples[:3], tune=samples[:2]), plan, "train samples"),
        (SETTINGS, net, Data(train=samples, tune=samples[:1]), plan, "tune samples"),
        (other, net, data, plan, "settings"),
    ):
        with pytest.raises(ValueError, match=f"made of another {what}; give another --out"):
            shrink(settings, teacher, changed, wanted, tmp_path / "made")


def test_int8_that_loses_too_much_is_trained_for(net: MultitaskNet, tmp_path: Path) -> None:
    """Rounded training runs, its network is another one, and the better INT8 graphs of the two are kept."""
    samples = square_samples(2)
    plan = Plan(ratio=0.5, tuning=TUNING, int8_loss=-1.0, passes=2)
    shrink(SETTINGS, net, Data(train=samples, tune=samples), plan, tmp_path)
    for variant in ("original", "pruned"):
        kept = torch.load(tmp_path / variant / "aware.pt", weights_only=True)
        assert kept["done"] == TUNING.steps
        assert not kept["tuning"]["bf16"]
        assert sorted(p.name for p in (tmp_path / variant / "int8").iterdir()) == [
            "decoder.onnx", "encoder.onnx", "heads.onnx"
        ]  # fmt: skip
    learnt = kept["student"]["encoder.levels.0.0.0.parametrizations.weight.original"]
    before = torch.load(tmp_path / "pruned" / "network.pt", weights_only=True)["encoder.levels.0.0.0.weight"]
    assert not torch.equal(learnt, before)


def prediction(number: int, *, overlap: int, logit: float, days: float) -> Prediction:
    none = np.zeros((1, 4, 4), np.float16)
    truth, probability = np.zeros((1, 4, 4), np.uint8), np.zeros((1, 4, 4), np.float16)
    truth[0, 0], probability[0, 0, :overlap], probability[0, 1, : 4 - overlap] = number % 2, 1, 1
    return Prediction(
        name=f"{number}", probability=probability, entropy=none, mutual_information=none, cam=none,
        tumour_logits=np.array([logit, logit]),
        risks=np.array([-days]), truth=truth, source="s", tumour=number % 2, spacing=(1, 1, 1), patient="",
        strata=(), time_days=days, event=1, covariates={}, log_hazard=None,
    )  # fmt: skip


def test_accuracy_by_hand() -> None:
    """Dice (1 + .5)/2 over the two with tumour; three of four pairs in order; risks order the deaths."""
    cases = [(1, 4, 2.0, 10.0), (3, 2, -1.0, 20.0), (0, 0, 0.0, 30.0), (2, 0, -2.0, 40.0)]
    found = accuracy([prediction(n, overlap=o, logit=x, days=d) for n, o, x, d in cases])
    assert (found.studies, found.dice, found.auc, found.c_index) == (4, 0.75, 0.75, 1.0)


def test_no_pair_in_order_is_no_concordance() -> None:
    """Where the only death comes after everybody else was lost, nobody can be put in order."""
    lost = replace(prediction(0, overlap=0, logit=0.0, days=10.0), event=0)
    assert accuracy([lost, prediction(1, overlap=4, logit=1.0, days=20.0)]).c_index is None
    assert accuracy([replace(lost, time_days=None)]).c_index is None


def test_the_newest_stage_is_shrunk(tmp_path: Path) -> None:
    """Settle, joint, heads, adapt, warm-up, in either place; none at all is an error that says so."""
    with pytest.raises(FileNotFoundError, match="train first"):
        checkpoint(tmp_path)
    (tmp_path / "stages").mkdir()
    for name in ("stages/warmup.pt", "stages/adapt.pt", "stages/heads.pt", "joint.pt", "stages/settle.pt"):
        (tmp_path / name).touch()
        assert checkpoint(tmp_path) == tmp_path / name
    assert checkpoint(tmp_path / "joint.pt") == tmp_path / "joint.pt"


def test_bad_input_ends_with_two(tmp_path: Path) -> None:
    """A folder without samples or variants is named, not traced."""
    app = typer.Typer()
    app.command("shrink")(shrink_command)
    app.command("benchmark")(benchmark_command)
    runner, config = CliRunner(), ["--config", str(CONFIG)]
    torch.save(small_network(SETTINGS).state_dict(), tmp_path / "heads.pt")
    arguments = ["shrink", str(tmp_path), *config, "--samples", str(tmp_path), "--out", str(tmp_path / "o")]
    for command in (arguments, ["benchmark", str(tmp_path), *config]):
        result = runner.invoke(app, command)
        assert result.exit_code == 2
        assert str(tmp_path.name) in result.output.replace("\n", "")
