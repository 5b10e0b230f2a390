"""Model bundles on disk: the signature first, then digests, the manifest, golden outputs."""

import hashlib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from daemon.domain.model_bundle import BundleRef, Manifest
from daemon.errors import FatalError
from daemon.inference.signature import SIGNATURE, TrustedKey, vouched

SUMS = "SHA256SUMS"
MANIFEST = "bundle.toml"
GOLDEN = Path("reference") / "golden.npz"


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle whose every file matched its digest in `digests` (by name); `signature` says in words who signed it.

    A bundle that is being made has no digests yet.
    """

    path: Path
    manifest: Manifest
    ref: BundleRef
    signature: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)

    def content(self, name: str) -> bytes:
        """Return a file's bytes.

        Raises:
            FatalError: it is gone, or was changed since the bundle was verified.
        """
        try:
            content = (self.path / name).read_bytes()
        except OSError as error:
            raise FatalError(f"bundle {self.ref.name}: {name}: {error.strerror}; install the bundle anew") from error
        if self.digests and hashlib.sha256(content).hexdigest() != self.digests[name]:
            raise FatalError(f"bundle {self.ref.name}: {name} was changed after it was verified; install it anew")
        return content


def load_bundle(path: Path, trusted: Iterable[TrustedKey] = ()) -> Bundle:
    """Verify and read the bundle in folder `path`.

    Raises:
        FatalError: a file is missing, altered or not listed, the manifest is invalid, or there are `trusted` keys and
            none of them signed it.
    """
    try:
        sums = (path / SUMS).read_bytes()
    except OSError as error:
        raise FatalError(f"{path.name}: {SUMS} is missing; install the bundle anew") from error
    signature = vouched(path, sums, trusted)
    listed = dict(_lines(path.name, sums))
    _compare(path, listed)
    manifest = _manifest(path, listed)
    graphs = [name for member in manifest.members for name in member.files]
    wanted = (*graphs, GOLDEN.as_posix(), *([manifest.novelty] if manifest.novelty else []))
    unlisted = [name for name in wanted if name not in listed]
    if unlisted:
        raise FatalError(f"{path.name}: {', '.join(unlisted)} is not among the bundle's files; install it anew")
    ref = BundleRef(name=manifest.name, version=manifest.version, digest=hashlib.sha256(sums).hexdigest())
    return Bundle(path=path, manifest=manifest, ref=ref, signature=signature, digests=listed)


def installed(root: Path, key_files: Iterable[Path] = (), *, newest: bool = True) -> tuple[Bundle, ...]:
    """Return the newest version of every bundle in `root`/<name>/<version>, ordered by name.

    Args:
        root: folder of bundles.
        key_files: public keys, PEM; where there are any, each bundle must be signed by one of them.
        newest: leave older versions out.

    Raises:
        FatalError: a bundle is damaged or not signed as it must be, or a key cannot be read.
    """
    trusted = [TrustedKey.read(path) for path in key_files]
    folders = sorted((sums.parent for sums in root.glob(f"*/*/{SUMS}")), key=lambda path: _version(path.name))
    last = {folder.parent.name: folder for folder in folders}
    chosen = list(last.values()) if newest else folders
    return tuple(load_bundle(path, trusted) for path in sorted(chosen, key=lambda path: path.parent.name))


def needed(root: Path, key_files: Iterable[Path] = ()) -> tuple[Bundle, ...]:
    """Return what `installed` does, at least one.

    Raises:
        FatalError: there is none, or as `installed` says.
    """
    bundles = installed(root, key_files)
    if not bundles:
        raise FatalError(f"no model bundle in {root}; set inference.models or install one")
    return bundles


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else -1 for part in text.split("."))


def _compare(path: Path, listed: Mapping[str, str]) -> None:
    """Raise FatalError unless the folder holds exactly the `listed` files (name -> SHA-256)."""
    present = {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()} - {SUMS, SIGNATURE}
    if present != set(listed):
        odd = ", ".join(sorted(present ^ set(listed)))
        raise FatalError(f"{path.name}: files and {SUMS} disagree on {odd}; install the bundle anew")
    for name, digest in listed.items():
        with (path / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise FatalError(f"{path.name}: {name} does not match its digest; install the bundle anew")


def _lines(bundle: str, sums: bytes) -> list[tuple[str, str]]:
    pairs = [line.split("  ", 1) for line in sums.decode(errors="replace").splitlines() if line]
    for pair in pairs:
        if len(pair) != len(("digest", "name")) or Path(pair[1]).is_absolute() or ".." in Path(pair[1]).parts:
            raise FatalError(f"{bundle}: {SUMS} has a line that is no digest and relative path")
    return [(name, digest) for digest, name in pairs]


def _manifest(path: Path, listed: Mapping[str, str]) -> Manifest:
    try:
        content = (path / MANIFEST).read_bytes()
        # Compared anew: the bytes that count are those that are read now.
        if hashlib.sha256(content).hexdigest() != listed.get(MANIFEST):
            raise FatalError(f"{path.name}: {MANIFEST} does not match its digest; install the bundle anew")
        return Manifest.parse(tomllib.loads(content.decode()))
    except (OSError, ValidationError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FatalError(f"{path.name}: {MANIFEST} is invalid: {error}") from error
