"""The shipped bundles: whole, listed, reproducible; damage is named."""

import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from daemon.config import bundled_models
from daemon.domain.reasons import Reason
from daemon.errors import FatalError, UnprocessableError
from daemon.inference.bundle import SUMS, installed, load_bundle
from daemon.inference.reader import BundleReader
from daemon.inference.session import Model, verify
from tests.peers import need_int8
from tests.tiny_bundle import make_tiny_bundle, sign

BUNDLES = sorted(bundled_models().glob(f"*/*/{SUMS}"))


def test_both_models_are_shipped() -> None:
    """A brain MRI and a PET/CT bundle are there, each at most 10 MB."""
    bundles = installed(bundled_models())
    assert [b.ref.name for b in bundles] == ["brain-mri", "petct"]
    assert all(sum(p.stat().st_size for p in b.path.rglob("*") if p.is_file()) < 10e6 for b in bundles)


@pytest.mark.parametrize("sums", BUNDLES, ids=lambda p: p.parent.parent.name)
def test_golden_outputs_are_reproduced_to_the_bit(sums: Path) -> None:
    """This machine gives what the bundle's maker saw."""
    need_int8()
    assert verify(Model(load_bundle(sums.parent))) == ()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of a bundle, to be damaged."""
    return Path(shutil.copytree(BUNDLES[-1].parent, tmp_path / "bundle"))


def test_an_altered_file_is_named(copy: Path) -> None:
    """A changed graph is refused with its name."""
    graph = copy / "heads.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
    with pytest.raises(FatalError, match=r"heads\.onnx"):
        load_bundle(copy)


@pytest.mark.parametrize("damage", [lambda old: old[:-1] + b"\0", lambda old: old[:100], None])
def test_a_file_damaged_since_the_start_is_never_read_with(copy: Path, damage: Callable[[bytes], bytes] | None) -> None:
    """Graphs are loaded at the first job: what changed or vanished until then fails it by name, and mended is used."""
    bundle, graph = load_bundle(copy), copy / "heads.onnx"
    reader, whole = BundleReader((bundle,), threads=1), graph.read_bytes()
    graph.unlink()
    if damage:
        graph.write_bytes(damage(whole))
    with pytest.raises(UnprocessableError, match=r"heads\.onnx") as caught:
        reader.read(bundle.ref, {}, "1.2")
    assert caught.value.reason == Reason.MODEL
    graph.write_bytes(whole)
    assert reader._load(bundle).bundle == bundle


def test_a_foreign_file_is_named(copy: Path) -> None:
    """A file that nobody listed is refused."""
    (copy / "extra.onnx").write_bytes(b"")
    with pytest.raises(FatalError, match=r"extra\.onnx"):
        load_bundle(copy)


def test_a_path_that_leaves_the_bundle_is_refused(copy: Path) -> None:
    """A digest line may not point outside."""
    with (copy / SUMS).open("a") as sums:
        sums.write("0" * 64 + "  ../secret\n")
    with pytest.raises(FatalError, match="relative path"):
        load_bundle(copy)


def test_missing_digests_are_refused(copy: Path) -> None:
    """Without SHA256SUMS nothing is loaded."""
    (copy / SUMS).unlink()
    with pytest.raises(FatalError, match=SUMS):
        load_bundle(copy)


def move_out(graph: Path) -> None:
    """Save a graph with its weights in a file beside it."""
    model = onnx.load(graph)
    onnx.save(model, graph, save_as_external_data=True, location="weights.bin", size_threshold=0)


def put_in_unknown_operator(graph: Path) -> None:
    """Give a graph an operator that only a library of somebody's knows."""
    model = onnx.load(graph)
    model.graph.node[0].domain = "someone.custom"
    model.opset_import.append(onnx.helper.make_opsetid("someone.custom", 1))
    onnx.save(model, graph)


@pytest.mark.parametrize(
    ("change", "said"), [(move_out, "outside its file"), (put_in_unknown_operator, "someone.custom")]
)
def test_a_graph_that_needs_more_than_itself_is_refused(
    tmp_path: Path, change: Callable[[Path], None], said: str
) -> None:
    """Right digests are not enough: no weights in other files, no operators from other libraries."""
    path = make_tiny_bundle(tmp_path / "bundle")
    change(path / "decoder.onnx")
    sign(path)
    with pytest.raises(FatalError, match=said):
        Model(load_bundle(path))
