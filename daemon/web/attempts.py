"""Log-ins that failed, counted by where they came from; kept in this process alone."""

import ipaddress
import threading
import time
from collections import deque
from collections.abc import Callable

WINDOW_SECONDS = 300.0
MOST = 10
_IPV6, _IPV6_SITE = 6, 64


class Attempts:
    """Failures by address over the last `WINDOW_SECONDS`; an IPv6 site (/64) counts as one address."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._failures: dict[str, deque[float]] = {}
        self._turn = threading.Lock()

    def spent(self, address: str) -> bool:
        """Return whether an address has failed too often to try again yet."""
        with self._turn:
            self._forget()
            return len(self._failures.get(_site(address), ())) >= MOST

    def failed(self, address: str) -> None:
        """Count a failure."""
        with self._turn:
            self._failures.setdefault(_site(address), deque(maxlen=MOST)).append(self._monotonic())

    def succeeded(self, address: str) -> None:
        """Take off the failure that was counted last."""
        with self._turn:
            times = self._failures.get(_site(address))
            if times:
                times.pop()

    def _forget(self) -> None:
        horizon = self._monotonic() - WINDOW_SECONDS
        for site, times in list(self._failures.items()):
            while times and times[0] < horizon:
                times.popleft()
            if not times:
                del self._failures[site]


def _site(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((parsed, _IPV6_SITE), strict=False)) if parsed.version == _IPV6 else address
