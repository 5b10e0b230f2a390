"""What `serve` runs its parts by."""

import subprocess
from pathlib import Path

import pytest
import typer

from daemon.runtime import _program
from demo.__main__ import main as demo


def test_parts_are_of_the_package_that_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another of its name in the working directory, such as a newer checkout, is not run."""
    other = tmp_path / "daemon"
    other.mkdir()
    (other / "__init__.py").touch()
    (other / "__main__.py").write_text("print('another release')\n")
    monkeypatch.chdir(tmp_path)
    told = subprocess.run([*_program(), "version"], capture_output=True, text=True, check=True)
    assert "another release" not in told.stdout


def test_the_demo_clears_no_folder_but_its_own(tmp_path: Path) -> None:
    """What it did not write stays."""
    (tmp_path / "holiday.png").touch()
    with pytest.raises(typer.BadParameter, match="another folder"):
        demo(out=tmp_path)
    assert (tmp_path / "holiday.png").exists()
