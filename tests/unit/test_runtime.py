"""What `serve` runs its parts by."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import typer

from daemon.runtime import _program, alone, mark, marked
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


def test_one_process_does_what_one_is_to_do(tmp_path: Path) -> None:
    """The first that asks; once it has ended, the next."""
    ask = f"from pathlib import Path; from daemon.runtime import alone; s = alone(Path({str(tmp_path / 'one')!r}), int)"
    told = f"{ask}; print(s() is not None, flush=True); input(); print(s() is not None)"
    first, second = (_asked(told) for _ in range(2))
    assert alone(tmp_path / "one", int)() is None
    first.communicate("\n")
    heard, _ = second.communicate("\n")
    assert heard == "True\n"


def test_a_mark_is_all_that_the_last_one_says(tmp_path: Path) -> None:
    """Nothing of a longer one shines through; it stands as long as any of them lives."""
    path = tmp_path / "mark"
    with ExitStack() as first:
        first.enter_context(marked(path, "127.0.0.1:11112"))
        with marked(path, "[::1]:1"):
            first.close()
            assert mark(path) == "[::1]:1"
    assert mark(path) == ""


def test_what_a_part_loaded_is_passed_over_and_no_more() -> None:
    """The collector looks no longer through what is there to stay, and still takes away what comes and goes."""
    told = """
import gc, weakref
from daemon.runtime import loaded
class Knot: pass
loaded(seldom=True)
assert gc.get_freeze_count() > 1000
knot = Knot(); knot.self, gone = knot, weakref.ref(knot)
del knot
gc.collect()
assert gone() is None
"""
    subprocess.run([sys.executable, "-c", told], check=True)


def _asked(program: str) -> subprocess.Popen[str]:
    """Run a program until it has said its first word."""
    made = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert made.stdout
    made.stdout.readline()
    return made
