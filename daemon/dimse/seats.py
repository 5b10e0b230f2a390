"""Places for associations, and the turn to try a passcode: of one process, or of several at one port."""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from io import FileIO
from pathlib import Path

# Calling AE title, address.
Peer = tuple[str, str]
_LOOKING = "looking"
_GUESSING = "guessing"
_LONGEST = 256


class Seats:
    """The `places` of one process, of which each peer has `own` at most."""

    def __init__(self, places: int, own: int) -> None:
        self.places = places
        self.own = own
        self._lock = threading.Lock()
        self._peers: dict[object, Peer] = {}
        # who guesses passcodes takes one core at most
        self._one_guess = threading.Lock()

    @property
    def taken(self) -> int:
        """How many this process has given."""
        return len(self._peers)

    def take(self, guest: object, peer: Peer) -> str:
        """Give `guest` a place until it leaves; return which limit stands against it, empty where none does."""
        with self._lock:
            limit = self._limit(len(self._peers), sum(one == peer for one in self._peers.values()))
            if not limit:
                self._peers[guest] = peer
        return limit

    def leave(self, guest: object) -> None:
        """Take the place back, where `guest` has one."""
        with self._lock:
            self._peers.pop(guest, None)

    def guess(self) -> AbstractContextManager[object]:
        """Return the turn to try a passcode."""
        return self._one_guess

    def _limit(self, taken: int, own: int) -> str:
        if taken >= self.places:
            return f"all {self.places} places are taken (listener.max_associations)"
        if own >= self.own:
            return f"it has {self.own} associations already (listener.max_associations_per_peer)"
        return ""


class SharedSeats(Seats):
    """The places of all processes that name the same folder.

    A place is a file there, locked while it is taken, that says by whom. The kernel unlocks what a process held that
    ends, however it ends.
    """

    def __init__(self, places: int, own: int, folder: Path) -> None:
        super().__init__(places, own)
        self._folder = folder
        self._held: dict[object, FileIO] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def taken(self) -> int:
        """How many this process has given."""
        return len(self._held)

    def take(self, guest: object, peer: Peer) -> str:
        """Give `guest` a place until it leaves; return which limit stands against it, empty where none does.

        Raises:
            OSError: the folder's disk refuses files or locks.
        """
        name = ascii(peer).encode()
        with self._alone(_LOOKING):
            names = [self._name(number) for number in range(self.places)]
            limit = self._limit(len(names) - names.count(b""), names.count(name))
            if not limit:
                self._held[guest] = self._seat(names.index(b""), name)
        return limit

    def leave(self, guest: object) -> None:
        """Take the place back, where `guest` has one."""
        seat = self._held.pop(guest, None)
        if seat is not None:
            seat.close()

    def guess(self) -> AbstractContextManager[object]:
        """Return the turn to try a passcode, of one in all processes."""
        return self._alone(_GUESSING)

    def _name(self, number: int) -> bytes:
        """Return who has a place, empty where nobody has."""
        with (self._folder / str(number)).open("a+b", buffering=0) as seat:
            try:
                fcntl.flock(seat, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return os.pread(seat.fileno(), _LONGEST, 0)
        return b""

    def _seat(self, number: int, name: bytes) -> FileIO:
        seat = (self._folder / str(number)).open("wb", buffering=0)
        fcntl.flock(seat, fcntl.LOCK_EX)
        seat.write(name)
        return seat

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        # Opened anew each time: so the lock holds between threads, too.
        with (self._folder / name).open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
