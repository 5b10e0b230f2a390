"""Who vouches for a bundle: an Ed25519 signature (RFC 8032) of SHA256SUMS, which holds the digest of every file."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from daemon.errors import FatalError

# 64 bytes, as `openssl pkeyutl -sign -rawin` writes them.
SIGNATURE = "SHA256SUMS.sig"


@dataclass(frozen=True, kw_only=True)
class TrustedKey:
    """A public key whose owner's bundles are run."""

    path: Path
    key: Ed25519PublicKey

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a PEM file.

        Raises:
            FatalError: it cannot be read, or is no Ed25519 public key.
        """
        mend = "give the PEM file that `openssl pkey -in KEY.pem -pubout` writes"
        try:
            key = load_pem_public_key(path.read_bytes())
        except OSError as error:
            raise FatalError(f"inference.trusted_keys: {path}: {error.strerror}; {mend}") from error
        except (ValueError, UnsupportedAlgorithm) as error:
            raise FatalError(f"inference.trusted_keys: {path} is no public key; {mend}") from error
        if not isinstance(key, Ed25519PublicKey):
            raise FatalError(f"inference.trusted_keys: {path} is no Ed25519 key; {mend}")
        return cls(path=path, key=key)

    def made(self, signature: bytes, content: bytes) -> bool:
        """Tell whether this key's owner signed `content`."""
        try:
            self.key.verify(signature, content)
        except InvalidSignature:
            return False
        return True


def fingerprint(key: Ed25519PublicKey) -> str:
    """Return the SHA-256 of the key's DER form (SubjectPublicKeyInfo), in hex."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def vouched(bundle: Path, sums: bytes, trusted: Iterable[TrustedKey]) -> str:
    """Return in words who signed a bundle's `sums`; without `trusted` keys, whether anybody claims to have.

    Raises:
        FatalError: there are trusted keys, and none of them signed.
    """
    keys = tuple(trusted)
    path = bundle / SIGNATURE
    signature = path.read_bytes() if path.is_file() else None
    if not keys:
        return "not signed" if signature is None else "signed, not checked"
    name = f"bundle {bundle.parent.name} {bundle.name}"
    if signature is None:
        raise FatalError(
            f"{name} is not signed and inference.trusted_keys asks for it; install it with its {SIGNATURE}, or sign it"
        )
    signer = next((key for key in keys if key.made(signature, sums)), None)
    if signer is None:
        raise FatalError(
            f"{name}: its signature is of none of inference.trusted_keys, or the bundle was changed since; install it "
            "anew from its maker, or add the maker's key if you trust it"
        )
    return f"signed by {signer.path.name}, sha256:{fingerprint(signer.key)}"
