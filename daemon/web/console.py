"""What the pages of one process share."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from daemon.bootstrap import House
from daemon.inference.bundle import Bundle, installed
from daemon.ledger.scores import Histograms
from daemon.runtime import LISTENING, mark
from daemon.second import candidates
from daemon.web.accesses import Accesses
from daemon.web.attempts import Attempts
from daemon.web.desk import Desk
from daemon.web.origins import Table, tables
from daemon.web.passwords import Passwords

# How long a bundle that was verified counts as being so.
_VERIFIED_SECONDS = 60.0


@dataclass(kw_only=True)
class Shelf:
    """Bundles, verified anew at most once a minute."""

    load: Callable[[], tuple[Bundle, ...]]
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _found: tuple[Bundle, ...] = ()
    _until: float = 0.0

    def bundles(self) -> Sequence[Bundle]:
        """Return the bundles.

        Raises:
            FatalError: one is damaged or not signed as it must be.
        """
        with self._lock:
            if time.monotonic() >= self._until:
                self._found = self.load()
                self._until = time.monotonic() + _VERIFIED_SECONDS
            return self._found

    def forget(self) -> None:
        """Verify anew the next time."""
        with self._lock:
            self._until = 0.0


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What came of running a bundle's golden input; `digest` is the bundle's."""

    at: datetime
    digest: str
    ok: bool
    detail: str


@dataclass(frozen=True, kw_only=True)
class Console:
    """The house, and what this process keeps of it: `shelf` has what answers, `others` what can read beside it."""

    house: House
    shelf: Shelf
    others: Shelf
    tables: Sequence[Table]
    histograms: Histograms
    desk: Desk
    verified: dict[str, Verified] = field(default_factory=dict)
    accesses: Accesses = field(default_factory=Accesses)
    attempts: Attempts = field(default_factory=Attempts)
    passwords: Passwords = field(default_factory=Passwords)

    @classmethod
    def of(cls, house: House) -> "Console":
        """Return the console of a house."""
        settings = house.settings
        return cls(
            house=house,
            shelf=Shelf(load=lambda: installed(settings.models(), settings.inference.trusted_keys)),
            others=Shelf(load=lambda: candidates(settings)),
            tables=tables(house.settings),
            histograms=Histograms(house.engine),
            desk=Desk(house),
        )

    def listening(self) -> str:
        """Return where the listener listens, empty where none runs."""
        return mark(self.house.settings.data.folder / LISTENING)
