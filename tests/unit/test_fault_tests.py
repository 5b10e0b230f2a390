"""`make torture` runs what docs/reliability.md names: the page is the list."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fault_tests import PAGE, ROOT, named


def rows() -> list[str]:
    """Return the last cell of each row of the table of faults."""
    table = PAGE.read_text(encoding="utf-8").partition("## What can go wrong")[2].partition("\n## ")[0]
    cells = [line.strip("| ").split(" | ")[-1] for line in table.splitlines() if line.startswith("| ")]
    return [cell for cell in cells if cell != "test"]


def test_every_fault_names_a_test_and_each_is_run() -> None:
    """No row without one; what the command prints holds each of them, and is there."""
    told = subprocess.run(
        [sys.executable, "-m", "tests.fault_tests"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert all((ROOT / path).is_file() for path in told)
    assert len(rows()) > 30
    for cell in rows():
        names = [name.strip("`") for name in cell.split(", ")]
        assert names, cell
        for name in names:
            assert name == "torture" or any(Path(path).stem == name for path in told), cell


def test_a_name_without_a_file_is_an_error() -> None:
    """A test that was renamed is not left out in silence."""
    with pytest.raises(ValueError, match="names test_of_yesterday"):
        named("| a fault | what happens | `test_faults`, `test_of_yesterday` |")


def test_torture_takes_its_tests_from_there() -> None:
    """And stops where the page is wrong."""
    target = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\ntorture:")[2].partition("\n\n")[0]
    assert "tests=$$($(PY) -m tests.fault_tests) && " in target
    assert "pytest -q $$tests" in target
