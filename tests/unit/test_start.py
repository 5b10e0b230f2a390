"""What a process must not load, because it starts without it."""

import subprocess
import sys
from pathlib import Path

import pytest

from daemon.domain.model_bundle import BundleRef
from tests.tiny_bundle import tiny_reader

_LISTENER = "daemon.bootstrap, daemon.couriers, daemon.dimse.listener, daemon.services.receive"


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [
        ("daemon.cli.main", "importlib.metadata rich pydantic sqlalchemy numpy"),
        ("daemon.bootstrap", "numpy pydicom pynetdicom highdicom SimpleITK onnxruntime alembic"),
        (_LISTENER, "highdicom SimpleITK onnxruntime alembic"),
    ],
)
def test_what_is_large_and_not_needed_is_not_loaded(modules: str, unwanted: str) -> None:
    """The help, the supervisor and the listener start without the libraries that only workers use."""
    code = f"import sys, {modules}; print(*sorted(set(sys.modules) & set({unwanted.split()})))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []


def test_a_warm_worker_loads_nothing_at_its_first_study(tmp_path: Path) -> None:
    """Every installed model is in memory after `warm`, and a damaged one is left to be told at its job."""
    reader = tiny_reader(tmp_path)
    reader.warm()
    assert _loaded(reader) == {bundle.ref for bundle in reader.bundles()}

    damaged = tiny_reader(tmp_path / "damaged")
    next((tmp_path / "damaged").rglob("encoder.onnx")).write_bytes(b"")
    damaged.warm()
    assert _loaded(damaged) == set()


def _loaded(reader: object) -> set[BundleRef]:
    found: set[BundleRef] = set(vars(reader)["_models"])
    return found
