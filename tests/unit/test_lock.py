"""requirements.lock: what a hospital installs, by version and hash."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
ENTRY = re.compile(
    r"^(?P<requirement>[a-z0-9][^\\\n]*?) \\\n(?P<hashes>(?: {4}--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE
)


def locked() -> dict[str, Requirement]:
    """Return every entry by name; each has a hash, and nothing else is in the file."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    entries = {r.name: r for r in (Requirement(found["requirement"]) for found in ENTRY.finditer(text))}
    assert ENTRY.sub("", text) == ""
    return entries


def test_every_dependency_is_locked_at_the_tested_version() -> None:
    """What pyproject.toml asks for is there, at the version that the tests run with."""
    entries = locked()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    tested = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if "==" in line
    )
    tested = {re.sub(r"[_.]", "-", name.lower()): version for name, version in tested.items()}
    for wanted in map(Requirement, project["dependencies"]):
        (specifier,) = entries[wanted.name].specifier
        assert specifier.operator == "=="
        assert specifier.version in wanted.specifier
    for name, requirement in entries.items():
        if requirement.marker is None:
            assert str(requirement.specifier) == f"=={tested[name]}"


def test_the_lock_holds_no_torch() -> None:
    """The daemon installs and runs without it."""
    assert not {"torch", "monai", "lifelines"} & set(locked())
