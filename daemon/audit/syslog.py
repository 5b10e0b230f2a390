"""Lines of the audit log as syslog messages (RFC 5424), with the header that PS3.15 A.6 and A.7 ask for."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

# Facility 10, security and authorisation; severity 5, notice, or 4, warning (PS3.15 A.6).
_FACILITY = 10
_NOTICE, _WARNING = 5, 4
# Event Outcome Indicator from which on it is a warning: serious failure.
_SERIOUS = 8
_APP_NAME = "overread"
_MSGID = "DICOM+RFC3881"
_NIL = "-"
# What says that UTF-8 follows (RFC 5424 6.4).
_BOM = b"\xef\xbb\xbf"
_MOST_HOSTNAME = 255
# sequenceId begins anew after this one (RFC 5424 7.3.1).
_MOST_SEQUENCE = 2147483647
_UNPRINTABLE = re.compile(r"[^!-~]")


def encode(document: Mapping[str, Any], hostname: str) -> bytes:
    """Return a line of the audit log as a syslog message.

    `sequenceId` is the line's number, so that a message that comes twice is known by it.
    """
    severity = _WARNING if int(document.get("outcome", 0)) >= _SERIOUS else _NOTICE
    sequence = (int(document["number"]) - 1) % _MOST_SEQUENCE + 1
    priority, at = _FACILITY * 8 + severity, _time(document.get("time"))
    procid = _NIL  # the message names the process that it tells of, which need not be the one that sends it
    header = f'<{priority}>1 {at} {_printable(hostname)} {_APP_NAME} {procid} {_MSGID} [meta sequenceId="{sequence}"] '
    return header.encode("ascii") + _BOM + str(document["message"]).encode()


def frame(message: bytes) -> bytes:
    """Return a message with its count of octets, as it goes over TLS (RFC 5425 4.3)."""
    return b"%d %b" % (len(message), message)


def _time(text: object) -> str:
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        return _NIL
    return at.isoformat(timespec="milliseconds") if at.tzinfo else _NIL


def _printable(hostname: str) -> str:
    return _UNPRINTABLE.sub("?", hostname)[:_MOST_HOSTNAME] or _NIL
