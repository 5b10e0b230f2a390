"""What a process must not load, because it starts without it."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from daemon.cli.main import app
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
    assert _found(f"import {modules}", unwanted) == []


def test_every_part_begins_without_what_only_some_use(tmp_path: Path) -> None:
    """Neither Alembic to see that the ledger is migrated, nor pynetdicom where the audit trail stays here."""
    assert CliRunner().invoke(app, ["init", str(tmp_path)]).exit_code == 0
    begins = f"house = House(load(Path({str(tmp_path)!r}))); house.ready(); house.forwarder()"
    code = f"from pathlib import Path; from daemon.bootstrap import House; from daemon.config import load; {begins}"
    assert _found(code, "alembic pynetdicom pydicom numpy") == []


def test_while_much_is_loaded_garbage_is_looked_for_rarely() -> None:
    """Until a part is loaded; then as usual, but no more among what it loaded."""
    code = "import gc; from daemon.runtime import loading, loaded; found = [gc.get_threshold()[0]]; loading()"
    told = "; ".join(
        (code, *("found.append(gc.get_threshold()[0]); loaded()",) * 2, "print(*found, gc.get_freeze_count())")
    )
    usual, meanwhile, after, frozen = map(int, _said(told))
    assert meanwhile > usual == after
    assert frozen > 0


def test_a_warm_worker_loads_nothing_at_its_first_study(tmp_path: Path) -> None:
    """Every installed model is in memory after `warm`, and a damaged one is left to be told at its job."""
    reader = tiny_reader(tmp_path)
    reader.warm()
    assert _loaded(reader) == {bundle.ref for bundle in reader.bundles()}

    damaged = tiny_reader(tmp_path / "damaged")
    next((tmp_path / "damaged").rglob("encoder.onnx")).write_bytes(b"")
    damaged.warm()
    assert _loaded(damaged) == set()


def _found(code: str, unwanted: str) -> list[str]:
    """Return which of the unwanted modules a process has loaded that runs `code`."""
    return _said(f"{code}; import sys; print(*sorted(set(sys.modules) & set({unwanted.split()})))")


def _said(code: str) -> list[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def _loaded(reader: object) -> set[BundleRef]:
    found: set[BundleRef] = set(vars(reader)["_models"])
    return found
