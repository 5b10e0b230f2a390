"""Connections that ask for nothing are closed; uvicorn would wait for a first request, and half a head, for ever."""

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import H11Protocol as Protocol
else:
    from uvicorn.protocols.http.auto import AutoHTTPProtocol as Protocol

SECONDS = 20.0


class Prompt(Protocol):
    """Looks every so often, and closes what has brought no whole head of a request since the last look."""

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - uvicorn's
        """Begin to look."""
        super().connection_made(transport)
        self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """Look no more."""
        self._next_look.cancel()
        super().connection_lost(exc)

    def _look_later(self) -> None:
        self._next_look: asyncio.TimerHandle = self.loop.call_later(SECONDS, self._look, self.cycle)

    def _look(self, before: object) -> None:
        answered = self.cycle is None or self.cycle.response_complete
        if self.cycle is before and answered:
            self.transport.close()
        else:
            self._look_later()
