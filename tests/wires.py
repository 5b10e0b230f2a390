"""A network that fails on request: a small TCP proxy between two real peers on loopback."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum

from demo.ports import HOST

CHUNK = 16384
RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time to linger: close sends RST
POLL_SECONDS = 0.05


class Fault(StrEnum):
    """What the wire does to a connection once enough bytes have gone through it."""

    CUT = "cut"  # both sides get a reset
    CLOSED = "closed"  # both sides get an orderly end, in the middle of whatever was said
    STALLED = "stalled"  # nothing more goes through, and nobody is told
    DELAYED = "delayed"  # every chunk comes later


class Wire:
    """Passes connections to `port` on; `plan` says what goes wrong, until `mend`."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._fault: Fault | None = None
        self._after, self._delay = 0, 0.0
        self._stop = threading.Event()
        self._server = socket.create_server((HOST, 0))
        self._server.settimeout(POLL_SECONDS)
        self.port: int = self._server.getsockname()[1]
        self.faults = 0
        self._threads = [threading.Thread(target=self._accept, name="wire")]
        self._threads[0].start()

    def plan(self, fault: Fault, after: int = 0, delay: float = 0.05) -> None:
        """Let each connection, the open ones too, suffer `fault` after `after` bytes from its caller."""
        self._fault, self._after, self._delay = fault, after, delay

    def mend(self) -> None:
        """Let bytes go through again; what stalled goes on from where it stood."""
        self._fault = None

    def close(self) -> None:
        """End the wire and all its connections."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._server.close()

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                caller, _ = self._server.accept()
            except TimeoutError:
                continue
            try:
                callee = socket.create_connection((HOST, self._target), timeout=5)
            except OSError:
                caller.close()
                continue
            thread = threading.Thread(target=self._carry, args=(_Link(caller=caller, callee=callee),), name="wire")
            self._threads.append(thread)
            thread.start()

    def _carry(self, link: "_Link") -> None:
        back = threading.Thread(target=self._pump, args=(link, link.callee, link.caller), name="wire-back")
        back.start()
        self._pump(link, link.caller, link.callee)
        back.join()
        for side in (link.caller, link.callee):
            side.close()

    def _pump(self, link: "_Link", source: socket.socket, sink: socket.socket) -> None:
        source.settimeout(POLL_SECONDS)
        with suppress(OSError):
            while not self._stop.is_set():
                if self._suffers(link, source):
                    continue
                try:
                    chunk = source.recv(CHUNK)
                except TimeoutError:
                    continue
                if not chunk:
                    break
                sink.sendall(chunk)
                if source is link.caller:
                    link.sent += len(chunk)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def _suffers(self, link: "_Link", source: socket.socket) -> bool:
        """Do what the plan says; return whether nothing may go through now."""
        fault = self._fault
        if fault is None or link.sent < self._after or (source is link.callee and fault is not Fault.STALLED):
            return False
        self.faults += 1
        if fault in {Fault.CUT, Fault.CLOSED}:
            for side in (link.caller, link.callee):
                if fault is Fault.CUT:
                    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                with suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)
            raise ConnectionResetError
        self._stop.wait(self._delay)
        return fault is Fault.STALLED


@dataclass(kw_only=True)
class _Link:
    caller: socket.socket
    callee: socket.socket
    sent: int = 0  # bytes from the caller that went through


@contextmanager
def wire(port: int) -> Iterator[Wire]:
    """Run a wire to `port` until the block ends."""
    made = Wire(port)
    try:
        yield made
    finally:
        made.close()
