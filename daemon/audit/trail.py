"""The local audit trail: messages rendered and appended to the chained log."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from daemon.audit.chain import Chain
from daemon.audit.message import render
from daemon.domain.audit import AuditMessage

LOGGER = logging.getLogger(__name__)
FILE_NAME = "audit.log"


class Trail:
    """Keeps audit messages in the data folder; `source` is who reports them (AuditSourceID)."""

    def __init__(self, folder: Path, source: str) -> None:
        self.chain = Chain(folder / FILE_NAME)
        self._source = source

    def record(self, messages: Sequence[AuditMessage]) -> None:
        """Keep messages, in order; durable on return.

        Where they cannot be written, each is an error in the ordinary log, and the work that they tell of goes on.
        """
        if not messages:
            return
        try:
            self.chain.append([self._document(message) for message in messages])
        except OSError as error:
            for message in messages:
                LOGGER.error(  # noqa: TRY400 - class and place say less than the cause
                    "an audit message (%s) could not be kept in %s: %s; make it writable and free space",
                    message.event.meaning,
                    self.chain.path,
                    error.strerror,
                )

    def _document(self, message: AuditMessage) -> dict[str, Any]:
        return {
            "time": message.at.isoformat(timespec="milliseconds"),
            "event": message.event.meaning,
            "type": message.type.meaning if message.type else "",
            "outcome": message.outcome.value,
            "who": [p.user_id for p in message.participants],
            "what": [subject.id for subject in message.objects],
            "message": render(message, self._source),
        }
