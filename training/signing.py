"""Signs a sealed bundle: whoever holds the key vouches for it."""

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from daemon.inference.bundle import SUMS, load_bundle
from daemon.inference.signature import SIGNATURE, fingerprint


class LockedKeyError(ValueError):
    """The key has a passphrase."""


def read_key(path: Path, passphrase: str = "") -> Ed25519PrivateKey:
    """Read a private key, PEM.

    Raises:
        LockedKeyError: it wants a passphrase.
        ValueError: it is no Ed25519 private key, or the passphrase is wrong.
    """
    mend = "make one with `openssl genpkey -algorithm ed25519 -out KEY.pem`"
    try:
        key = load_pem_private_key(path.read_bytes(), passphrase.encode() or None)
    except TypeError as error:  # what the library raises for a passphrase that is missing, or not needed
        if passphrase:
            raise ValueError(f"{path} has no passphrase; give none") from error
        raise LockedKeyError(f"{path} has a passphrase") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{path} is no private key, or its passphrase is another; {mend}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{path} is no Ed25519 key; {mend}")  # noqa: TRY004 - the file is wrong, no argument's type
    return key


def sign(bundle: Path, key: Ed25519PrivateKey) -> str:
    """Put `key`'s signature into the bundle's folder, in place of any other; return the key's fingerprint.

    Raises:
        FatalError: the bundle is damaged.
    """
    load_bundle(bundle)
    (bundle / SIGNATURE).write_bytes(key.sign((bundle / SUMS).read_bytes()))
    return fingerprint(key.public_key())
