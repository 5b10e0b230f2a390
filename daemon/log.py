"""Logging: one line an event; UIDs and numbers only, never what names a patient."""

import json
import logging
import sys
import threading
import warnings
from datetime import UTC, datetime
from types import TracebackType

LOGGER = logging.getLogger(__name__)

_QUIET = ("pynetdicom", "pydicom", "highdicom", "alembic", "sqlalchemy", "dicomweb_client", "urllib3", "uvicorn")


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        document = {
            "time": datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "source": record.name,
            "event": record.getMessage(),
        }
        if record.exc_info and record.exc_info[0]:
            # A trace may quote values of a data set; class and place suffice to find the fault.
            document |= {"error": record.exc_info[0].__name__, "at": place(record.exc_info[2])}
        return json.dumps(document)


def place(trace: TracebackType | None) -> str:
    """Return where an error was raised, as file:line."""
    while trace and trace.tb_next:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""


def hush() -> None:
    """Silence libraries, whose warnings and errors quote values of data sets, names among them.

    What went wrong is told by us, in words of our own; what ends a thread is told by class and place too.
    """
    threading.excepthook = _told
    warnings.simplefilter("ignore")
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _told(fault: threading.ExceptHookArgs) -> None:
    name = fault.thread.name if fault.thread else ""
    if fault.exc_value is not None:
        found = (fault.exc_type, fault.exc_value, fault.exc_traceback)
        LOGGER.error("the thread %s ended by an unexpected error", name, exc_info=found)


def configure(level: str = "INFO") -> None:
    """Send this process's log to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
