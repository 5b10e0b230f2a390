"""Who was told to look at what lately: a study of a thousand frames is one event of the audit trail, not a thousand."""

import threading
from datetime import datetime, timedelta

EVERY = timedelta(minutes=5)
_MOST = 10_000


class Accesses:
    """Remembers when each access was last told."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: dict[tuple[str, str, str], datetime] = {}

    def told(self, access: tuple[str, str, str], now: datetime) -> bool:
        """Return whether this access (who, from where, to which study) was told lately; it counts as told from now."""
        with self._lock:
            last = self._told.get(access)
            if last is not None and timedelta() <= now - last < EVERY:
                return True
            if len(self._told) >= _MOST:
                self._told.clear()
            self._told[access] = now
            return False
