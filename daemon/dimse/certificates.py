"""What is wrong with the files of TLS, said before a peer finds out."""

import _ssl
import ssl
import stat
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from daemon.dimse.tls import load_files
from daemon.domain.trust import Credentials

SOON = timedelta(days=30)
# What our own certificate is called beside those of authorities.
OURS = "ours"


def ailments(files: Credentials, now: datetime) -> list[str]:
    """Return what is wrong or soon will be, and the mend, a sentence each; nothing where all is well.

    Raises:
        FatalError: a file is missing, unreadable, or the key is another certificate's.
    """
    found: list[str] = []
    for name, certificate in _certificates(files):
        file = files.certificate if name == OURS else f"{files.authorities}, {name},"
        found += _dates(f"tls.{'certificate' if name == OURS else 'authorities'} {file}", certificate, now)
    if files.key is not None:
        found += _rights(files.key)
    return found


def expiries(files: Credentials) -> dict[str, datetime]:
    """Return when each certificate ends: OURS, and those of authorities by common name; of one name the first to end.

    Raises:
        FatalError: as `ailments`.
    """
    found: dict[str, datetime] = {}
    for name, certificate in _certificates(files):
        end = _moment(certificate, "notAfter")
        found[name] = min(end, found.get(name, end))
    return found


def _certificates(files: Credentials) -> Iterator[tuple[str, Mapping[str, Any]]]:
    context = load_files(ssl.PROTOCOL_TLS_CLIENT, files)
    if files.certificate is not None:
        # the standard library has no public way to read a certificate that nobody has verified
        yield OURS, _ssl._test_decode_cert(str(files.certificate))  # type: ignore[attr-defined]  # noqa: SLF001
    for authority in context.get_ca_certs():
        yield _common_name(authority), authority


def _moment(certificate: Mapping[str, Any], key: str) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate[key]), tz=UTC)


def _dates(name: str, certificate: Mapping[str, Any], now: datetime) -> Iterator[str]:
    begin, end = _moment(certificate, "notBefore"), _moment(certificate, "notAfter")
    mend = "renew it and replace the file; no restart is needed"
    if now < begin:
        yield f"{name} is valid from {begin:%Y-%m-%d %H:%M} UTC only; set this machine's clock, or wait"
    if now >= end:
        yield f"{name} expired on {end:%Y-%m-%d}; {mend}"
    elif end - now < SOON:
        yield f"{name} expires in {(end - now).days} days, on {end:%Y-%m-%d}; {mend}"


def _common_name(certificate: Mapping[str, Any]) -> str:
    parts = (part for relative in certificate.get("subject", ()) for part in relative)
    return next((value for key, value in parts if key == "commonName"), "of no common name")


def _rights(key: Path) -> Iterator[str]:
    if key.stat().st_mode & stat.S_IRWXO:
        yield f"tls.key {key} is everyone's to read: chmod 600 it"
