"""The time, as something that can be handed in, and how far the machine's can be trusted."""

import ctypes
from datetime import UTC, datetime
from typing import Protocol

_UNSYNCHRONISED = 0x40  # STA_UNSYNC of linux/timex.h


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """Return the present, aware and in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the present, aware and in UTC."""
        return datetime.now(tz=UTC)


class _Timex(ctypes.Structure):
    """The beginning of struct timex, adjtimex(2), and room for the rest; modes = 0 changes nothing."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        *((name, ctypes.c_long) for name in ("offset", "freq", "maxerror", "esterror")),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 512),
    )


def synchronised() -> bool | None:
    """Return whether the kernel holds its clock to be synchronised; None where it does not say, or there is no such."""
    told = _Timex()
    try:
        if ctypes.CDLL(None).adjtimex(ctypes.byref(told)) < 0:
            return None
    except (AttributeError, OSError):
        return None
    return not told.status & _UNSYNCHRONISED
