"""How a peer proves who it is: the files of TLS, what a certificate says, and whose it has to be."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_DIGEST = "sha256:"


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A peer's certificate: the SHA-256 of its DER form in hex, and its common and alternative names in lower case."""

    fingerprint: str
    names: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Proof:
    """A certificate that belongs to an AE title, known by its fingerprint or by a name it was issued to."""

    ae_title: str
    name: str = ""
    fingerprint: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `AE=NAME` or `AE=sha256:FINGERPRINT`, with or without colons; the last = divides.

        Raises:
            ValueError: it is neither; the message names it and the mend.
        """
        title, _, shown = (part.strip() for part in text.rpartition("="))
        if not title or not shown:
            raise ValueError(f"{text!r}: write AE=NAME or AE=sha256:FINGERPRINT")
        if not shown.lower().startswith(_DIGEST):
            return cls(ae_title=title, name=shown.lower())
        fingerprint = shown[len(_DIGEST) :].lower().replace(":", "")
        if not _FINGERPRINT.fullmatch(fingerprint):
            raise ValueError(f"{text!r}: a SHA-256 fingerprint has 64 hexadecimal digits")
        return cls(ae_title=title, fingerprint=fingerprint)

    def fits(self, certificate: Certificate) -> bool:
        """Tell whether `certificate` is the one meant."""
        if self.fingerprint:
            return certificate.fingerprint == self.fingerprint
        return bool(self.name) and self.name in certificate.names


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """Files of TLS, all PEM: our certificate with its chain, its key, and the authorities that we trust.

    Without `certificate` and `key` we show none; without `authorities` peers are not asked for theirs.
    """

    certificate: Path | None = None
    key: Path | None = None
    authorities: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ServerTls:
    """TLS of the listener; where `proofs` has any, a caller needs one for its AE title."""

    credentials: Credentials
    client_certificates: bool = True
    proofs: tuple[Proof, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ClientTls:
    """TLS toward a destination; where `proofs` is empty its certificate must be issued to its host."""

    credentials: Credentials
    proofs: tuple[Proof, ...] = ()
