"""What `pip install .` brings along."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_wheel_holds_models_and_migrations_and_wants_no_torch(tmp_path: Path) -> None:
    """An installation without checkout has every tracked bundle file and migration; plain `daemon` needs no torch."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = next(archive.read(name).decode() for name in names if name.endswith("METADATA"))
    shared = {name.partition(".data/data/share/overread/")[2] for name in names}
    git = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "models", "alembic"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(git.stdout.split()) - shared == set()
    assert {"daemon/cli/main.py", "daemon/web/templates/now.html", "training/configs/petct.toml"} <= set(names)
    assert any(name.endswith("share/man/man1/overread.1") for name in names)
    needed = [line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line]
    assert needed
    assert not any("torch" in line for line in needed)
