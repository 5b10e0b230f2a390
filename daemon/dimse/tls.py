"""TLS 1.2 and 1.3 by the BCP 195 profiles of PS3.15 Annex B: authenticated encryption with forward secrecy only."""

import contextlib
import hashlib
import socket
import ssl
from collections.abc import Mapping
from typing import Any

from pynetdicom.association import Association

from daemon.dimse.sockets import FastSocket
from daemon.domain.trust import Certificate, ClientTls, Credentials, Proof, ServerTls
from daemon.errors import FatalError, RefusedError

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2; those of 1.3 all qualify
_HANDSHAKE = b"\x16"  # content type of the first TLS record, RFC 8446 5.1
_ASSOCIATE_RQ = b"\x01"  # PDU type of A-ASSOCIATE-RQ, PS3.8 9.3.2
_MEANINGS: Mapping[str, str] = {
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
    "UNSUPPORTED_PROTOCOL": "it speaks no TLS of version 1.2 or above",
    "NO_SHARED_CIPHER": "it offers no cipher suite of BCP 195",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it shows no certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not know the authority of our certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it wants a certificate of ours",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "it accepts no cipher suite of BCP 195, or wants a certificate of ours",
}


def server_context(tls: ServerTls) -> ssl.SSLContext:
    """Return what the listener accepts connections with; read anew each time, so that renewed files count.

    Raises:
        FatalError: a file is missing, unreadable, or the key is another certificate's.
    """
    context = load_files(ssl.PROTOCOL_TLS_SERVER, tls.credentials)
    context.verify_mode = ssl.CERT_REQUIRED if tls.client_certificates else ssl.CERT_NONE
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    return context


def client_context(files: Credentials) -> ssl.SSLContext:
    """Return what to call a server with whose certificate must be issued to its host.

    Raises:
        FatalError: as `server_context` does.
    """
    return load_files(ssl.PROTOCOL_TLS_CLIENT, files)


def load_files(protocol: int, files: Credentials) -> ssl.SSLContext:
    """Return a context with these files.

    Raises:
        FatalError: one is missing, unreadable, or the key is another certificate's.
    """
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    try:
        if files.certificate is not None:
            context.load_cert_chain(files.certificate, files.key, password=_no_passphrase)
    except (OSError, ValueError) as error:
        raise FatalError(
            f"tls.certificate {files.certificate} with tls.key {files.key}: {_cause(error)}; both must be readable "
            "PEM files, the key without a passphrase and of this certificate"
        ) from error
    try:
        if files.authorities is not None:
            context.load_verify_locations(files.authorities)
    except (OSError, ValueError) as error:
        raise FatalError(f"tls.authorities {files.authorities}: {_cause(error)}; give a readable PEM file") from error
    return context


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase")


def _cause(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return {"KEY_VALUES_MISMATCH": "the key is not of this certificate"}.get(error.reason, "it is no valid PEM")
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def shown(link: ssl.SSLSocket) -> Certificate | None:
    """Return the certificate that the peer showed and the handshake verified, None where it showed none."""
    encoded = link.getpeercert(binary_form=True)
    if encoded is None:
        return None
    parsed: dict[str, Any] = link.getpeercert() or {}
    common = (value for relative in parsed.get("subject", ()) for key, value in relative if key == "commonName")
    other = (value for _, value in parsed.get("subjectAltName", ()) if isinstance(value, str))
    return Certificate(
        fingerprint=hashlib.sha256(encoded).hexdigest(), names=frozenset(name.lower() for name in (*common, *other))
    )


def explain(error: OSError) -> str:
    """Say in words why a TLS handshake failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "the handshake took too long"
    if isinstance(error, ssl.SSLEOFError | ConnectionError):
        return "it hung up in the handshake"
    if isinstance(error, ssl.SSLError) and error.reason:
        return _MEANINGS.get(error.reason, error.reason.lower().replace("_", " "))
    return error.strerror or str(error)


class TlsSocket(FastSocket):
    """A FastSocket whose connection is TLS after `secure`, and carries nothing before."""

    def __init__(self, association: Association, connection: socket.socket, tls: ServerTls) -> None:
        super().__init__(association, connection)
        self._tls = tls
        self._raw = connection
        self._certificate: Certificate | None = None

    @property
    def certificate(self) -> Certificate | None:
        """The certificate that the peer showed."""
        return self._certificate

    def secure(self, seconds: float) -> bool:
        """Do the handshake within `seconds`; return False when the peer left without a word."""
        try:
            self._raw.settimeout(seconds)
            first = self._raw.recv(1, socket.MSG_PEEK)
            if not first:
                return False
            if first != _HANDSHAKE:
                what = "plain DICOM" if first == _ASSOCIATE_RQ else "no TLS"
                raise RefusedError(f"{what} came to the TLS port; turn TLS on at the sender")
            link = server_context(self._tls).wrap_socket(self._raw, server_side=True, do_handshake_on_connect=False)
            self.socket = link
            link.do_handshake()
        except OSError as error:
            raise RefusedError(f"no TLS with it: {explain(error)}") from error
        self._certificate = shown(link)
        return True

    def set_timeout(self, seconds: float) -> None:
        """Bound each following wait to `seconds`; the kernel's own timeout does not end a read of TLS."""
        if self.socket is not None:
            self.socket.settimeout(seconds)

    def fill(self, view: memoryview) -> bool:
        """Fill `view` from the peer; return False when the connection ended first.

        Raises:
            TimeoutError: nothing came within the time set, or not all within the limit.
        """
        filled = 0
        while filled < len(view) and self.socket is not None:
            self.keep_in_time()
            try:
                count = self.socket.recv_into(view[filled:])
            except TimeoutError:
                raise
            except OSError:
                return False
            if count == 0:
                return False
            filled += count
        return filled == len(view)

    def wake(self) -> None:
        """End a wait for data from another thread; `SSLSocket.shutdown` would turn the link to plain text."""
        with contextlib.suppress(OSError, TypeError):
            socket.socket.shutdown(self.socket, socket.SHUT_RD)

    def finish(self) -> None:
        """Say that nothing more will be sent: close_notify, then the end of the stream."""
        with contextlib.suppress(OSError, ValueError):
            if isinstance(self.socket, ssl.SSLSocket):
                self.socket.unwrap()
        socket.socket.shutdown(self.socket, socket.SHUT_WR)


class _ProvenSocket(ssl.SSLSocket):
    """A client's socket that tells its `Client` why it failed: pynetdicom keeps only that it did."""

    client: "Client"

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - as the standard library has it
        try:
            super().do_handshake(block)
            self.client.check(self)
        except OSError as error:
            self.client.fault = explain(error)
            raise

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        try:
            return super().recv(buflen, flags)
        except ssl.SSLError as error:  # in TLS 1.3 our certificate is refused after the handshake
            self.client.fault = explain(error)
            raise


class Client:
    """TLS toward one destination, in the shape that pynetdicom's `tls_args` takes; `fault` says what went wrong."""

    def __init__(self, tls: ClientTls) -> None:
        """Read the files.

        Raises:
            FatalError: as `server_context` does.
        """
        self.fault = ""
        self._proofs: tuple[Proof, ...] = tls.proofs
        self._context = client_context(tls.credentials)
        self._context.check_hostname = not tls.proofs
        self._context.sslsocket_class = _ProvenSocket

    def wrap_socket(self, raw: socket.socket, *, server_side: bool, server_hostname: str) -> ssl.SSLSocket:
        """Return the socket to connect with."""
        link = self._context.wrap_socket(raw, server_side=server_side, server_hostname=server_hostname)
        if isinstance(link, _ProvenSocket):
            link.client = self
        return link

    def check(self, link: ssl.SSLSocket) -> None:
        """Hold the certificate against the proofs.

        Raises:
            ssl.SSLCertVerificationError: it fits none.
        """
        certificate = shown(link)
        if self._proofs and (certificate is None or not any(proof.fits(certificate) for proof in self._proofs)):
            fingerprint = certificate.fingerprint if certificate else "none"
            error = ssl.SSLCertVerificationError()
            error.verify_message = f"tls.peers names another; this is sha256:{fingerprint}"
            raise error
