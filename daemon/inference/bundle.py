"""Model bundles on disk: digests first, then the manifest, then golden outputs."""

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from daemon.domain.model_bundle import BundleRef, Manifest
from daemon.errors import FatalError

SUMS = "SHA256SUMS"
MANIFEST = "bundle.toml"
GOLDEN = Path("reference") / "golden.npz"


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle whose every file matched its digest."""

    path: Path
    manifest: Manifest
    ref: BundleRef


def load_bundle(path: Path) -> Bundle:
    """Verify and read the bundle in folder `path`.

    Raises:
        FatalError: a file is missing, altered or not listed, or the manifest is invalid.
    """
    sums = path / SUMS
    if not sums.is_file():
        raise FatalError(f"{path.name}: {SUMS} is missing; install the bundle anew")
    listed = dict(_lines(sums))
    _compare(path, listed)
    manifest = _manifest(path)
    graphs = (manifest.graphs.encoder, manifest.graphs.decoder, manifest.graphs.heads)
    wanted = (*graphs, GOLDEN.as_posix(), *([manifest.novelty] if manifest.novelty else []))
    unlisted = [name for name in wanted if name not in listed]
    if unlisted:
        raise FatalError(f"{path.name}: {', '.join(unlisted)} is not among the bundle's files; install it anew")
    ref = BundleRef(name=manifest.name, version=manifest.version, digest=hashlib.sha256(sums.read_bytes()).hexdigest())
    return Bundle(path=path, manifest=manifest, ref=ref)


def installed(root: Path) -> tuple[Bundle, ...]:
    """Return the newest version of every bundle in `root`/<name>/<version>, ordered by name.

    Raises:
        FatalError: one of them is damaged.
    """
    newest: dict[str, Path] = {}
    for sums in sorted(root.glob(f"*/*/{SUMS}"), key=lambda p: _version(p.parent.name)):
        newest[sums.parent.parent.name] = sums.parent
    return tuple(load_bundle(path) for _, path in sorted(newest.items()))


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else -1 for part in text.split("."))


def _compare(path: Path, listed: Mapping[str, str]) -> None:
    """Raise FatalError unless the folder holds exactly the `listed` files (name -> SHA-256)."""
    present = {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()} - {SUMS}
    if present != set(listed):
        odd = ", ".join(sorted(present ^ set(listed)))
        raise FatalError(f"{path.name}: files and {SUMS} disagree on {odd}; install the bundle anew")
    for name, digest in listed.items():
        with (path / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise FatalError(f"{path.name}: {name} does not match its digest; install the bundle anew")


def _lines(sums: Path) -> list[tuple[str, str]]:
    pairs = [line.split("  ", 1) for line in sums.read_text(encoding="utf-8", errors="replace").splitlines() if line]
    for pair in pairs:
        if len(pair) != len(("digest", "name")) or Path(pair[1]).is_absolute() or ".." in Path(pair[1]).parts:
            raise FatalError(f"{sums.parent.name}: {SUMS} has a line that is no digest and relative path")
    return [(name, digest) for digest, name in pairs]


def _manifest(path: Path) -> Manifest:
    try:
        return Manifest.parse(tomllib.loads((path / MANIFEST).read_text(encoding="utf-8")))
    except (OSError, ValidationError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FatalError(f"{path.name}: {MANIFEST} is invalid: {error}") from error
