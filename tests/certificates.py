"""Authorities and certificates for tests, made with the openssl program."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from daemon.domain.trust import Credentials
from tests.peers import need

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A certificate and its key."""

    certificate: Path
    key: Path

    def options(self, authority: "Authority") -> tuple[str, ...]:
        """Return what DCMTK's programs take to show this and to trust `authority`."""
        return ("+tls", str(self.key), str(self.certificate), "+cf", str(authority.certificate))

    def credentials(self, authority: "Authority") -> Credentials:
        """Return the same for us."""
        return Credentials(certificate=self.certificate, key=self.key, authorities=authority.certificate)

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 as openssl prints it, with colons."""
        shown = _openssl("x509", "-in", str(self.certificate), "-noout", "-fingerprint", "-sha256")
        return shown.partition("=")[2].strip()


class Authority:
    """A certification authority of its own."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        need("openssl")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.certificate = folder / f"{name}.pem"
        self._key = folder / f"{name}.key"
        _openssl("req", "-x509", *_NEW_KEY, "-keyout", str(self._key), "-out", str(self.certificate),
                 "-subj", f"/CN={name}", "-days", "100")  # fmt: skip

    def issue(self, name: str, *alternatives: str, days: int = 90) -> Pair:
        """Return a certificate for the common name `name` and alternatives such as DNS:pacs or IP:127.0.0.1."""
        pair = Pair(certificate=self._folder / f"{name}.pem", key=self._folder / f"{name}.key")
        names = ("-addext", f"subjectAltName={','.join(alternatives)}") if alternatives else ()
        _openssl("req", "-x509", *_NEW_KEY, "-keyout", str(pair.key), "-out", str(pair.certificate),
                 "-subj", f"/CN={name}", "-days", str(days), "-extensions", "usr_cert", *names,
                 "-CA", str(self.certificate), "-CAkey", str(self._key))  # fmt: skip
        return pair


def _openssl(*arguments: str) -> str:
    made = subprocess.run(["openssl", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert made.returncode == 0, made.stderr
    return made.stdout
