"""Threads that wait for the disk, handed work in a tenth of the time that `concurrent.futures` takes for it."""

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol


class Pending(Protocol):
    """Something under way."""

    def result(self) -> object:
        """Wait for its end; raise what it raised."""
        ...


class Disk(Protocol):
    """Who does what waits for the disk."""

    def submit(self, fn: Callable[..., object], /, *args: object) -> Pending:
        """Begin a call."""
        ...


class _Call:
    """One call; `run` by one thread, waited for by others."""

    def __init__(self, fn: Callable[..., object], args: tuple[object, ...]) -> None:
        self._fn = fn
        self._args = args
        self._fault: BaseException | None = None
        self._under_way = threading.Lock()
        self._under_way.acquire()

    def run(self) -> None:
        try:
            self._fn(*self._args)
        except BaseException as error:  # noqa: BLE001 - whoever waits for it hears of it
            self._fault = error
        finally:
            self._under_way.release()

    def result(self) -> None:
        with self._under_way:
            fault = self._fault
        if fault is not None:
            raise fault


class Flushes:
    """As many threads as there are calls under way at once; each stays for the next one.

    They are ended with the process: nothing that one has under way was promised.
    """

    def __init__(self) -> None:
        self._resting: deque[SimpleQueue[_Call]] = deque()

    def submit(self, fn: Callable[..., object], /, *args: object) -> Pending:
        """Begin a call on a thread that rests, else on a new one; where there can be none, do it here and now."""
        call = _Call(fn, args)
        try:
            self._resting.pop().put(call)
        except IndexError:
            self._begin(call)
        return call

    def _begin(self, call: _Call) -> None:
        post: SimpleQueue[_Call] = SimpleQueue()
        post.put(call)
        try:
            threading.Thread(target=_serve, args=(post, self._resting), name="flush", daemon=True).start()
        except RuntimeError:  # no thread is left
            call.run()


def _serve(post: "SimpleQueue[_Call]", resting: "deque[SimpleQueue[_Call]]") -> None:
    while True:
        call = post.get()
        # Rests as soon as it is done: whoever waited for it finds it there for the next one.
        call.run()
        del call
        resting.append(post)
