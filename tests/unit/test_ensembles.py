"""An ensemble in one bundle: every member has its share of the passes, and all passes count alike."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from daemon.domain.model_bundle import BundleRef, Graphs, folders
from daemon.domain.output import OutputKind
from daemon.errors import FatalError
from daemon.imaging.steps import neighbour_stack
from daemon.inference.bundle import GOLDEN, Bundle, load_bundle
from daemon.inference.mc_dropout import Inference, binary_entropy, draw, infer, seed_of
from daemon.inference.session import Model, verify
from tests.manifests import BRAIN
from tests.networks import prepared
from tests.small_networks import small_network, small_settings, square_samples
from tests.sources import case, coarse_head
from tests.tiny_bundle import make_tiny_bundle, sign
from training.__main__ import app
from training.bundling import members, settings_in
from training.calibration.store import load as load_calibration
from training.curriculum.learnt import Learnt
from training.network import MultitaskNet
from training.predictions import load_all
from training.provenance import Seen
from training.settings import Settings

NAMES = ("encoder", "decoder", "heads")
OTHERS = tuple(Graphs(**{name: f"{folder}{name}.onnx" for name in NAMES}) for folder in folders(2)[1:])
# Voxels of every probability get passes.
EVERYWHERE = replace(BRAIN, calibration=replace(BRAIN.calibration, explore_threshold=0.0))
PAIR = replace(EVERYWHERE, more_graphs=OTHERS)
EACH = 3


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of two members, the second of which wants brighter voxels."""
    return make_tiny_bundle(tmp_path_factory.mktemp("bundles") / "pair", PAIR)


@pytest.fixture(scope="module")
def pair(path: Path) -> Model:
    """The bundle, loaded."""
    return Model(load_bundle(path), threads=1)


def lone(path: Path, graphs: Graphs) -> Model:
    """Return one member as a model of its own."""
    ref = BundleRef(name="lone", version="0", digest="0")
    return Model(Bundle(path=path, manifest=replace(EVERYWHERE, graphs=graphs), ref=ref), threads=1)


def test_two_members_equal_members_combined_by_hand(path: Path, pair: Model) -> None:
    """Mean, SD and mutual information are those of all passes of both, each under masks of its own, plainly stacked."""
    study = prepared()
    got = infer(pair, study, "study", 2 * EACH)
    rng = np.random.Generator(np.random.Philox(seed_of("study")))
    stack = neighbour_stack(study.array, BRAIN.recipe, np.arange(study.array.shape[1]))
    passes, tumours, risks, maps = [], [], [], []
    for graphs in (BRAIN.graphs, *OTHERS):
        (network,) = lone(path, graphs).members
        features = network.encode(stack)
        for _ in range(EACH):
            masks = draw(BRAIN.dropout, rng)
            logits = network.decode(features, {name: masks[name] for name in BRAIN.dropout.decoder_masks})
            passes.append(0.5 + 0.5 * np.tanh(0.5 * logits))
            _, tumour, risk = network.judge(features[-1], {name: masks[name] for name in BRAIN.dropout.head_masks})
            tumours.append(tumour)
            risks.append(risk)
        maps.append(infer(lone(path, graphs), study, "study", 1).cam)
    mean = np.mean(passes, axis=0)
    doubt = np.mean([binary_entropy(p) for p in passes], axis=0)
    assert np.abs(got.probability - mean).max() < 1e-6
    assert np.abs(got.sd - np.std(passes, axis=0)).max() < 1e-5
    assert np.abs(got.mutual_information - (binary_entropy(mean) - doubt)).max() < 1e-5
    assert got.tumour_logits == pytest.approx(tumours, abs=1e-5)
    assert got.risks == pytest.approx(risks, abs=1e-5)
    assert got.cam == pytest.approx(np.mean(maps, axis=0), abs=1e-5)
    between = [np.mean(passes[i : i + EACH], axis=0) for i in (0, EACH)]
    assert np.abs(between[0] - between[1]).max() > 0.05


def same(a: Inference, b: Inference) -> bool:
    """Tell whether all numbers agree to the bit."""
    names = ("probability", "sd", "mutual_information", "cam", "embedding")
    return a.tumour_logits == b.tumour_logits and all(np.array_equal(getattr(a, n), getattr(b, n)) for n in names)


def test_an_ensemble_repeats_itself_to_the_bit(path: Path, pair: Model) -> None:
    """Equal keys agree on other numbers of threads too; another key does not."""
    first = infer(pair, prepared(), "study")
    assert same(first, infer(Model(load_bundle(path), threads=2), prepared(), "study"))
    assert not same(first, infer(pair, prepared(), "other"))


def test_every_member_has_as_many_passes(pair: Model) -> None:
    """Five passes of two members are three each; the bundle's own four are two each."""
    assert len(infer(pair, prepared(), "study", 5).tumour_logits) == 6
    assert len(infer(pair, prepared(), "study").risks) == BRAIN.dropout.passes


def test_without_passes_each_member_says_its_word_once(pair: Model) -> None:
    """No dropout, so no key changes it and no voxel has any spread."""
    plain = infer(pair, prepared(), "study", 0)
    assert same(plain, infer(pair, prepared(), "other", 0))
    assert (len(plain.tumour_logits), len(plain.risks), plain.sd.max()) == (2, 2, 0)
    assert plain.probability.max() > 0


def test_what_one_member_alone_conceives_is_explored(path: Path) -> None:
    """Between the members' thresholds the second sees nothing, and passes of both run all the same."""
    manifest = replace(PAIR, calibration=replace(BRAIN.calibration, explore_threshold=0.5))
    both = Model(replace(load_bundle(path), manifest=manifest), threads=1)
    second = Model(replace(both.bundle, manifest=replace(manifest, graphs=OTHERS[0], more_graphs=())), threads=1)
    study = prepared()
    array = np.full_like(study.array, -3.0)
    array[0, 3, 12, 12] = 2.5 * 1.02
    faint = replace(study, array=array)
    assert infer(second, faint, "study").sd.max() == 0
    assert infer(both, faint, "study").sd.max() > 0


def test_the_golden_outputs_are_each_members(path: Path, pair: Model, tmp_path: Path) -> None:
    """They come back to the bit; a changed one is named with its member, and so is one that is not there."""
    assert verify(pair) == ()
    with np.load(path / GOLDEN) as golden:
        values = {name: golden[name] for name in golden.files}
    values["member-2/logits"][0, 0, 0] += 1
    del values["member-2/risk"]
    other = make_tiny_bundle(tmp_path / "pair", PAIR)
    np.savez_compressed(other / GOLDEN, **values)
    sign(other)
    assert verify(Model(load_bundle(other), threads=1)) == ("member-2/logits", "member-2/risk")


def test_a_missing_member_is_named(tmp_path: Path) -> None:
    """An ensemble short of a graph is refused by that file's name, even when signed so."""
    path = make_tiny_bundle(tmp_path / "pair", PAIR)
    (path / OTHERS[0].decoder).unlink()
    sign(path)
    with pytest.raises(FatalError, match=r"member-2/decoder\.onnx"):
        load_bundle(path)


def test_a_manifest_of_one_network_is_an_ensemble_of_one() -> None:
    """What was sealed before there were members is read as it was."""
    assert BRAIN.members == (BRAIN.graphs,)
    assert folders(1) == ("",)
    assert PAIR.members == (BRAIN.graphs, *OTHERS)


def test_the_report_names_members_and_passes(tmp_path: Path) -> None:
    """Among the algorithm's parameters stand all passes and each member's share; one network's only count passes."""
    coarse_head(tmp_path)
    paths = sorted(tmp_path.rglob("*.dcm"))
    both, alone = (case(paths, 0, manifest).contents[OutputKind.REPORT] for manifest in (PAIR, BRAIN))
    assert b"MC-dropout passes 30 (2 members x 15)" in both
    assert b"MC-dropout passes 30" in alone
    assert b"members" not in alone


def run_of(folder: Path, settings: Settings) -> Path:
    """Write two untrained members as `train --members 2 --start` leaves them."""
    seen = tuple(sorted(Seen.of(sample) for sample in square_samples(3)))
    for number in (1, 2):
        own = settings.changed({"seed": settings.seed + number - 1})
        member = folder / f"member-{number}"
        own.save(member / "settings.toml")
        Learnt(train=(), tune=(), before=seen).claim(member)
        (member / "stages").mkdir()
        torch.save(small_network(own, number).state_dict(), member / "stages" / "heads.pt")
    return folder


def told(*words: str) -> str:
    """Run a command that succeeds and return what it prints."""
    result = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.output


def settings(tmp_path: Path, most_mb: float = 10.0) -> Settings:
    """Return a small network's settings whose data have a licence."""
    licensed = {"prefix": "squares", "name": "squares", "licence": "none needed"}
    changes = {"bundle.most_mb": most_mb, "bundle.passes": 4, "sources": [licensed], "bundle.name": tmp_path.name}
    return small_settings(16).changed(changes)


def test_a_trained_ensemble_becomes_one_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Export, predict, calibrate and seal take all members; the daemon reads as the predictions did, calibrated."""
    monkeypatch.chdir(tmp_path)
    run, samples = run_of(tmp_path / "run", settings(tmp_path)), tmp_path / "samples"
    for split in ("train", "tune"):
        for sample in square_samples(4):
            sample.save(samples / split)
    told("export", str(run), "--samples", str(samples / "train"))
    said = run / "predictions" / "tune"
    told("predict", str(run), "--samples", str(samples / "tune"), "--out", str(said))
    assert {len(p.tumour_logits) for p in load_all(said)} == {4}
    config = str(run / "member-1" / "settings.toml")
    told("calibrate", str(said), "--config", config, "--out", str(run / "calibration.toml"))
    said = run / "predictions" / "calibrated"
    told("predict", str(run), "--samples", str(samples / "tune"), "--out", str(said), "--calibrated")
    sealed = ("seal", str(run), "--samples", str(samples), "--measured", f"squares={said}")
    card = told(*sealed)
    assert "| earlier training | squares | 3 | 3 | none needed |" in card
    assert "4 passes shared among 2 networks" in " ".join(card.split())
    bundle = tmp_path / "models" / tmp_path.name / settings(tmp_path).bundle.version
    model = Model(load_bundle(bundle), threads=1)
    assert verify(model) == ()
    assert len(model.members) == 2
    assert model.manifest.calibration == load_calibration(run / "calibration.toml").calibration
    for name in NAMES:
        shipped = (run / "member-2" / "int8" / f"{name}.onnx").read_bytes()
        assert (bundle / "member-2" / f"{name}.onnx").read_bytes() == shipped
    told("predict", str(bundle), "--samples", str(samples / "tune"), "--out", str(tmp_path / "again"))
    for before, after in zip(load_all(said), load_all(tmp_path / "again"), strict=True):
        assert np.array_equal(before.tumour_logits, after.tumour_logits)
        assert np.array_equal(before.probability, after.probability)
    for member in members(run):
        settings(tmp_path, most_mb=0.1).save(member / "settings.toml")
    refused = CliRunner().invoke(app, sealed, env={"COLUMNS": "400"})
    assert refused.exit_code == 2
    assert "bundle of 2 members" in refused.output
    assert "most_mb" in refused.output


def test_what_is_no_ensemble_is_refused(tmp_path: Path) -> None:
    """Members of other networks, a run beside members and a folder without any are named."""
    run = run_of(tmp_path / "run", settings(tmp_path))
    assert [folder.name for folder in members(run)] == ["member-1", "member-2"]
    small_settings(32).save(run / "member-2" / "settings.toml")
    with pytest.raises(ValueError, match=r"differ in \[network\]"):
        members(run)
    small_settings(16).save(run / "settings.toml")
    with pytest.raises(ValueError, match="beside member-1"):
        members(run)
    with pytest.raises(FileNotFoundError, match="give the folder that `train` wrote"):
        settings_in(tmp_path / "none")


def test_a_volume_network_is_not_exported(tmp_path: Path) -> None:
    """The error says why not and what to train in its place; `run` says so before it trains."""
    flat, run = small_settings(16), tmp_path / "run"
    network = flat.network.model_copy(update={"spatial_dims": 3})
    volumes = flat.model_copy(update={"recipe": replace(flat.recipe, neighbours=1), "network": network})
    volumes.save(run / "settings.toml")
    (run / "stages").mkdir()
    torch.save(MultitaskNet(1, network).state_dict(), run / "stages" / "heads.pt")
    square_samples(1)[0].save(tmp_path / "samples")
    for words in (["export", str(run), "--samples", str(tmp_path / "samples")], ["run", str(run / "settings.toml")]):
        refused = CliRunner().invoke(app, words, env={"COLUMNS": "400"})
        assert refused.exit_code == 2
        assert "its INT8 is slower than its FP32; train with network.spatial_dims = 2" in refused.output
