"""Logging: one line an event; UIDs and numbers only, never what names a patient."""

import json
import logging
import sys
import warnings
from datetime import UTC, datetime

_QUIET = ("pynetdicom", "pydicom", "highdicom", "alembic", "sqlalchemy", "dicomweb_client", "urllib3")


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
            trace = record.exc_info[2]
            while trace and trace.tb_next:
                trace = trace.tb_next
            where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
            document |= {"error": record.exc_info[0].__name__, "at": where}
        return json.dumps(document)


def hush() -> None:
    """Silence libraries below ERROR: their warnings quote values of data sets, names among them."""
    warnings.simplefilter("ignore")
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)


def configure(level: str = "INFO") -> None:
    """Send this process's log to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
