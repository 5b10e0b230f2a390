"""A page of the documentation followed word by word: its blocks of commands, run in a shell as they stand."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# A model's full number of passes changes nothing here but the time.
QUICK = {"OVERREAD_INFERENCE__PASSES": "2", "OVERREAD_ASSEMBLY__QUIET_SECONDS": "2"}


def blocks(name: str, title: str) -> list[str]:
    """Return the blocks of commands below a title of a page in docs/."""
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    section = page.partition(f"## {title}\n")[2].partition("\n## ")[0]
    found: list[str] = re.findall(r"^```\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    return found


def place(folder: Path) -> dict[str, str]:
    """Return an environment in which `overread` and `python` are this checkout's."""
    programs = folder / "programs"
    programs.mkdir()
    for name, command in (("overread", f"{sys.executable} -m daemon"), ("python", sys.executable)):
        (programs / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (programs / name).chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}:/usr/sbin"
    return {**os.environ, **QUICK, "PATH": path, "PYTHONPATH": str(ROOT)}


def run(folder: Path, commands: str, environment: dict[str, str]) -> str:
    """Run commands in a shell, up to the first that fails; return what they print."""
    with (folder / "told.log").open("w+") as told:
        # To a file: what goes on in the background would hold a pipe open.
        done = subprocess.run(
            ["bash", "-e", "-c", commands],
            cwd=folder,
            env=environment,
            stdout=told,
            stderr=subprocess.STDOUT,
            timeout=400,
            check=False,
        )
        told.seek(0)
        text = told.read()
    assert done.returncode == 0, text
    return text


def ended(folder: Path) -> None:
    """End what a trial has left running, by the ids that it wrote."""
    for file in folder.rglob("*.pid"):
        try:
            os.kill(int(file.read_text()), signal.SIGTERM)
        except ProcessLookupError:
            continue
