"""Real data beside the checkout; a machine without it skips by name."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1].parent / "shared" / "data"


def shared(*parts: str) -> Path:
    """Return a folder or file of the real data, or skip the test."""
    path = ROOT.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"real data {'/'.join(parts)} is not beside the checkout")
    return path


def files(folder: Path) -> list[Path]:
    """Return all files below a folder but licences, notes and tables."""
    return sorted(
        p for p in folder.rglob("*") if p.is_file() and p.name != "LICENSE" and p.suffix not in {".md", ".json"}
    )
