"""Processes: the loops of each verb, and the supervisor over them."""

import fcntl
import gc
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from daemon.bell import Ear, Stop

LOGGER = logging.getLogger(__name__)
# In the data folder: where the listener that runs listens, all of its processes.
LISTENING = "listening"
# The same of the console.
CONSOLE = "console"
# The same of each part, whatever it does: which one it is.
RUNNING = "running"
# The lock of the part that sends the audit trail on.
FORWARDING = "forwarding"
SUPERVISED = "OVERREAD_SUPERVISED"
POLL_SECONDS = 0.5
RETIRE_SECONDS = 60.0
FORWARD_SECONDS = 1.0
# A listener says so often that its associations are still served; silent for so long, it is lost.
ALIVE_SECONDS = 15.0
LOST = timedelta(minutes=2)
WATCH_SECONDS = 60.0
FAULT_SECONDS = 5.0
# The supervisor waits so much longer than what its parts allow themselves.
DRAIN_SECONDS = 20.0
# A part that died is started again after this long.
RESTART_SECONDS = 2.0
# Parts that follow others wait for them so long at most, and look so often.
LEAD_SECONDS = 10.0
LEAD_LOOK_SECONDS = 0.05
# Python looks for garbage after so many new objects, as it comes and while much is loaded.
_USUAL_OBJECTS = gc.get_threshold()
_LOADING_OBJECTS = 20_000
_STOPPING = (signal.SIGTERM, signal.SIGINT)


def loading() -> None:
    """Look for garbage more rarely until `loaded`: modules make little, and each look costs more."""
    gc.set_threshold(_LOADING_OBJECTS, *_USUAL_OBJECTS[1:])


def loaded(*, seldom: bool = False) -> None:
    """Look for garbage as usual from now on, or `seldom`, and not among what is there, which stays to the end."""
    gc.freeze()
    if not seldom:
        gc.set_threshold(*_USUAL_OBJECTS)


def stop_on_signals() -> Stop:
    """Return an event that SIGTERM and SIGINT set, and under a supervisor its death too."""
    stop = signalled()
    if os.environ.get(SUPERVISED):
        threading.Thread(target=_await_orphanhood, args=(stop,), name="supervisor", daemon=True).start()
    return stop


def signalled(numbers: Sequence[signal.Signals] = _STOPPING) -> Stop:
    """Return an event that these signals set, in this process and none that it was forked from."""
    stop = Stop()
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    for number in numbers:
        signal.signal(number, lambda *_: None)
    # Not from the handler: where it interrupts a wait for the event, setting that would wait for its lock for ever.
    threading.Thread(target=_await_signal, args=(told, numbers, stop), name="signals", daemon=True).start()
    return stop


def _await_signal(told: int, numbers: Sequence[signal.Signals], stop: threading.Event) -> None:
    # Other signals that somebody handles are told of here, too.
    while number := os.read(told, 1):
        if number[0] in numbers:
            stop.set()


def _await_orphanhood(stop: threading.Event) -> None:
    """The supervisor holds the other end of our standard input: its end is the supervisor's."""
    # Not by sys.stdin: a thread that waits in its lock would abort the interpreter's end.
    while os.read(sys.stdin.fileno(), 4096):
        pass
    if not stop.is_set():
        LOGGER.error("the supervisor is gone; stopping")
        stop.set()


def cap_memory(megabytes: int) -> None:
    """Let this process map at most so many megabytes (RLIMIT_AS); 0 sets no limit.

    What asks for more gets a MemoryError, where the system would else end some process or other.
    """
    if megabytes:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))


def end_first() -> None:
    """Where the machine's memory runs out, let the kernel end this process before the others of the daemon."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")


def loop(
    name: str,
    step: Callable[[], object],
    stop: threading.Event,
    wait: float = POLL_SECONDS,
    rest: Callable[[float], object] | None = None,
) -> None:
    """Call `step` until `stop`; pause when it had nothing to do, longer when it failed.

    `rest` is how to pause where something may end that early, besides `stop`.
    """
    while not stop.is_set():
        try:
            busy = bool(step())
        except Exception:
            # The edge of a loop: whatever it was, the ledger holds the truth and the next round starts from it.
            LOGGER.exception("%s failed; going on in %.0f s", name, FAULT_SECONDS)
            stop.wait(FAULT_SECONDS)
            continue
        if not busy:
            (rest or stop.wait)(wait)


@contextmanager
def grace(stop: threading.Event, seconds: float, overdue: Callable[[], None]) -> Iterator[None]:
    """Call `overdue`, from another thread, where the body goes on for more than `seconds` after `stop`."""
    done = threading.Event()

    def watch() -> None:
        stop.wait()
        if not done.wait(seconds):
            overdue()

    threading.Thread(target=watch, name="grace", daemon=True).start()
    try:
        yield
    finally:
        done.set()


@contextmanager
def marked(path: Path, text: str) -> Iterator[None]:
    """Say `text` in a file while the body runs; the lock on it ends with this process, however that ends."""
    path.touch()
    # Not emptied first: another may say the same already, and somebody be reading it.
    with path.open("r+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        file.write(text)
        file.truncate()
        yield


def mark(path: Path) -> str:
    """Return what a process that lives says in the file, empty where none does."""
    if not path.exists():
        return ""
    with path.open(encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read()
    return ""


def alone(path: Path, step: Callable[[], object]) -> Callable[[], object]:
    """Return `step` for one process of those that ask for it by the same file: the first, until it ends."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def turn() -> object:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        return step()

    return turn


@contextmanager
def beside(
    name: str,
    step: Callable[[], object] | None,
    stop: threading.Event,
    wait: float,
    rest: Callable[[float], object] | None = None,
) -> Iterator[None]:
    """Loop in a thread of its own while the block runs; the block's end awaits the loop's."""
    if step is None:
        yield
        return
    thread = threading.Thread(target=loop, args=(name, step, stop, wait, rest), name=name)
    thread.start()
    try:
        yield
    except BaseException:
        stop.set()
        raise
    finally:
        thread.join()


def worker_name(pid: int) -> str:
    """Return what the ledger calls the worker of this machine with that process id."""
    return f"{socket.gethostname()}-{pid}"


def die() -> None:
    """End this process at once; the supervisor starts another."""
    os.kill(os.getpid(), signal.SIGKILL)


class Sends(Protocol):
    """A verb that works on one destination."""

    def step(self, name: str) -> int:
        """Work on what is due."""
        ...


class Posting:
    """One thread per destination, so that a dead one holds nothing else; new destinations get theirs.

    Each rests by an ear of its own, which `heard` lends it.
    """

    def __init__(
        self,
        names: Callable[[], Sequence[str]],
        verbs: Sequence[Sends],
        heard: Callable[[], AbstractContextManager[Ear]],
    ) -> None:
        self._names = names
        self._verbs = verbs
        self._heard = heard
        self._threads: dict[str, threading.Thread] = {}

    def refresh(self, stop: threading.Event) -> None:
        """Start the threads that are missing."""
        for name in self._names():
            if name not in self._threads:
                thread = threading.Thread(target=self._post, args=(name, stop), name=f"deliver-{name}")
                thread.start()
                self._threads[name] = thread

    def join(self) -> None:
        """Wait until all have stopped."""
        for thread in self._threads.values():
            thread.join()

    def _post(self, name: str, stop: threading.Event) -> None:
        with self._heard() as ear:
            loop(f"delivery to {name}", lambda: sum(verb.step(name) for verb in self._verbs), stop, rest=ear.wait)


@dataclass(frozen=True, kw_only=True)
class Lead:
    """So many of the first `parts` start before the others, which follow once `there` says so."""

    parts: int
    there: Callable[[], bool]


class Supervisor:
    """Runs the parts as processes of their own and starts again what dies; a part is a command, maybe with options.

    Told to stop it waits a little longer than the `seconds` that the parts allow themselves, then kills them. Of a part
    that died `lost` is told which, its process id, and exit code or minus the signal.
    """

    def __init__(
        self, config: Path, parts: Sequence[str], seconds: float, lost: Callable[[str, int, int], None]
    ) -> None:
        self._seconds = seconds + DRAIN_SECONDS
        self._lost = lost
        self._parts = tuple(parts)
        self._commands = [[*_program(), *part.split(), "--config", str(config)] for part in parts]
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def run(self, stop: threading.Event, lead: Lead | None = None) -> None:
        """Supervise until `stop`, then let every part finish what it has in hand.

        Where a part that leads died, cannot be started, or takes long, the others follow all the same.
        """
        if lead is not None:
            self._go_ahead(stop, lead)
        due = dict.fromkeys(range(len(self._commands)), 0.0)
        while not stop.is_set():
            for index in range(len(self._commands)):
                child = self._children.get(index)
                if child is not None and child.poll() is None:
                    continue
                if child is not None and due[index] == 0.0:
                    LOGGER.error("%s ended with %s; starting it again", self._parts[index], child.returncode)
                    due[index] = time.monotonic() + RESTART_SECONDS
                    self._tell(self._parts[index], child)
                if time.monotonic() >= due[index]:
                    due[index] = 0.0 if self._started(index) else time.monotonic() + RESTART_SECONDS
            stop.wait(POLL_SECONDS)
        self._drain()

    def _go_ahead(self, stop: threading.Event, lead: Lead) -> None:
        deadline = time.monotonic() + LEAD_SECONDS
        begun = all(self._started(index) for index in range(lead.parts))
        while begun and not lead.there() and time.monotonic() < deadline and not stop.wait(LEAD_LOOK_SECONDS):
            begun = all(child.poll() is None for child in self._children.values())

    def _tell(self, part: str, child: subprocess.Popen[bytes]) -> None:
        try:
            self._lost(part, child.pid, child.returncode)
        except Exception:
            # The parts must be started again whatever else is broken; a lease ends by itself.
            LOGGER.exception("what %s %d had in hand could not be settled", part, child.pid)

    def _started(self, index: int) -> bool:
        """Start a part that stops when we are gone: it reads our end of its standard input.

        Return whether that went: a machine that has no process or memory left for it may have some soon.
        """
        command, before = self._commands[index], self._children.get(index)
        try:
            child = subprocess.Popen(command, stdin=subprocess.PIPE, env={**os.environ, SUPERVISED: "1"})
        except OSError as error:
            LOGGER.error("%s cannot be started now (%s); tried again", self._parts[index], error.strerror)  # noqa: TRY400
            return False
        _let_go(before)
        self._children[index] = child
        return True

    def _drain(self) -> None:
        for child in self._children.values():
            child.terminate()
        deadline = time.monotonic() + self._seconds
        for child in self._children.values():
            with suppress(subprocess.TimeoutExpired):
                child.wait(max(0.0, deadline - time.monotonic()))
            if child.poll() is None:
                LOGGER.error("process %d did not stop in time and is killed", child.pid)
                child.kill()
                child.wait()
            _let_go(child)


def _program() -> list[str]:
    """Return what runs this very package, though another of its name lie in the working directory."""
    ours = Path(__file__).resolve().parents[1]
    return [sys.executable, *([] if ours == Path.cwd() else ["-P"]), "-m", "daemon"]


def _let_go(child: subprocess.Popen[bytes] | None) -> None:
    """Close our end of what an ended part read."""
    if child is not None and child.stdin is not None:
        child.stdin.close()
