"""An Audit Record Repository for tests: a TLS server that parses octet-counted frames (RFC 5425), and strictly."""

import re
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum

from demo.ports import HOST
from tests.certificates import Authority, Pair

# SYSLOG-MSG of RFC 5424 section 6, written from its ABNF; MSG must be UTF-8 with its mark here.
_NAME = r"[!#-<>-\\^-~]{1,32}"
_PARAM = rf'{_NAME}="(?:[^"\\\]]|\\["\\\]])*"'
_STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)"
SYSLOG = re.compile(
    rf"<(?P<priority>0|[1-9]\d{{0,2}})>1 (?P<stamp>-|{_STAMP}) (?P<hostname>[!-~]{{1,255}}) (?P<app>[!-~]{{1,48}}) "
    rf"(?P<process>[!-~]{{1,128}}) (?P<id>[!-~]{{1,32}}) (?P<data>-|(?:\[{_NAME}(?: {_PARAM})*\])+) "
    "\ufeff(?P<message>.*)",
    re.DOTALL,
)


class Habit(StrEnum):
    """How a repository ends a connection."""

    ORDERLY = "answers close_notify"
    BLUNT = "ends the stream without a word, having read everything"
    DEAF = "never ends it"
    DROPS = "resets it after some octets"
    LEAVES = "ends its stream after the handshake and reads nothing"


class Server:
    """Keeps whole messages in `messages`; `habit` may be changed between connections."""

    def __init__(self, listener: socket.socket, pair: Pair, authority: Authority) -> None:
        self.habit = Habit.ORDERLY
        self.messages: list[str] = []
        self.faults: list[str] = []
        self.connections = 0
        self.port = int(listener.getsockname()[1])
        self._listener = listener
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pair.certificate, pair.key)
        self._context.load_verify_locations(authority.certificate)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self.left = threading.Event()
        self._held: list[socket.socket] = []

    def sequences(self) -> list[int]:
        """Return the sequenceId of each message, in the order they came."""
        return [int(re.findall(r'sequenceId="(\d+)"', message)[0]) for message in self.messages]

    def run(self) -> None:
        """Serve one connection after the other until the listener is closed."""
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                try:
                    self._serve(connection)
                except OSError as error:
                    self.faults.append(str(error))
                    connection.close()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        link = self._context.wrap_socket(connection, server_side=True)
        if self.habit is Habit.LEAVES:
            socket.socket.shutdown(link, socket.SHUT_WR)
            self._held.append(link)
            self.left.set()
            return
        if self.habit is Habit.DROPS:
            self.messages += frames(link.recv(3000), whole=False)
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            socket.socket.close(link)
            return
        content = b""
        while chunk := link.recv(1 << 16):
            content += chunk
        self.messages += frames(content, whole=True)
        if self.habit is Habit.ORDERLY:
            link.unwrap().close()
        elif self.habit is Habit.BLUNT:
            link.close()
        else:
            self._held.append(link)

    def close(self) -> None:
        """End what is held."""
        for link in self._held:
            link.close()


def frames(content: bytes, *, whole: bool) -> list[str]:
    """Return the messages of `MSG-LEN SP SYSLOG-MSG` repeated; a cut one at the end is left out unless `whole`."""
    found = []
    while content:
        length = re.match(rb"([1-9]\d*) ", content)
        assert length or not whole, content[:40]
        if not length:
            break
        begin, size = length.end(), int(length[1])
        if len(content) < begin + size:
            assert not whole, "the last message is cut"
            break
        text = content[begin : begin + size].decode()
        assert SYSLOG.fullmatch(text), text
        found.append(text)
        content = content[begin + size :]
    return found


@contextmanager
def repository(pair: Pair, authority: Authority) -> Iterator[Server]:
    """Run a repository that shows `pair` and wants a certificate of `authority`."""
    with socket.create_server((HOST, 0)) as listener:
        server = Server(listener, pair, authority)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            socket.socket.shutdown(listener, socket.SHUT_RDWR)
            thread.join(15)
            server.close()
