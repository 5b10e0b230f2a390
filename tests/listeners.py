"""Those who are told: a webhook and a mail server on loopback that keep what they get."""

import json
import socketserver
import ssl
import threading
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

from demo.ports import HOST
from tests.certificates import Pair

Server = TypeVar("Server", bound=socketserver.BaseServer)


class Hook(ThreadingHTTPServer):
    """Answers POST with `status`, keeps the bodies that it took and the last one's token; by TLS with `pair`."""

    def __init__(self, pair: Pair | None = None) -> None:
        super().__init__((HOST, 0), _Posted)
        self.status = 204
        self.asked = 0
        self.token = ""
        self.bodies: list[dict[str, Any]] = []
        if pair:
            self.socket = _context(pair).wrap_socket(self.socket, server_side=True)


class _Posted(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked += 1
        self.server.token = self.headers.get("Authorization", "")
        if self.server.status // 100 == 2:
            self.server.bodies.append(body)
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Mailbox(socketserver.ThreadingTCPServer):
    """A server of SMTP (RFC 5321) that refuses addressees of `unknown`; with `pair` by STARTTLS, and for users."""

    allow_reuse_address = True
    daemon_threads = False

    def __init__(self, pair: Pair | None = None) -> None:
        super().__init__((HOST, 0), _Delivered)
        self.unknown = "unknown.example"
        self.pair = pair
        self.users: list[bytes] = []
        self.mails: list[EmailMessage] = []


class _Delivered(socketserver.StreamRequestHandler):
    server: Mailbox

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                self._keep()
            self.wfile.write(self._answer(verb, line))
            if verb == b"STAR" and self.server.pair:
                try:
                    self.connection = _context(self.server.pair).wrap_socket(self.connection, server_side=True)
                except ssl.SSLError:
                    return
                self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
            if verb == b"QUIT":
                return

    def finish(self) -> None:
        """Close what STARTTLS made of the connection too."""
        super().finish()
        self.connection.close()

    def _answer(self, verb: bytes, line: bytes) -> bytes:
        if verb == b"EHLO" and self.server.pair:
            secure = isinstance(self.connection, ssl.SSLSocket)
            return b"250-here\r\n250 AUTH PLAIN\r\n" if secure else b"250-here\r\n250 STARTTLS\r\n"
        if verb == b"AUTH":
            self.server.users.append(b64decode(line.split()[2]))
            return b"235 welcome\r\n"
        if verb == b"STAR":
            return b"220 begin\r\n"
        known = self.server.unknown.encode() not in line
        return b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n" if known else b"550 unknown\r\n"

    def _keep(self) -> None:
        lines = []
        while (line := self.rfile.readline()) != b".\r\n":
            lines.append(line)
        mail = message_from_bytes(b"".join(lines), _class=EmailMessage, policy=policy.default)
        self.server.mails.append(mail)


def _context(pair: Pair) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    return context


@contextmanager
def listening(server: Server) -> Iterator[Server]:
    """Serve until the block ends."""
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
