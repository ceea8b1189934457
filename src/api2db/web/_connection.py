"""One HTTP connection of the page, which ends if no request arrives in time."""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

_REQUEST_S: Final = 10.0


class Connection(H11Protocol):
    """Closes a connection on which no request is complete and none is being answered for ten seconds.

    uvicorn itself waits for the first request for ever. Clients that send half of one, or nothing, would take all
    places, and the page, its metrics and ``/healthz`` would be refused to everybody.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self.loop.call_later(_REQUEST_S, self._close_if_idle_since, None)

    def _close_if_idle_since(self, answered: Any) -> None:
        """Close if no request has come since the one that had been answered at the last look."""
        if self.transport.is_closing():
            return
        last: Any = self.cycle  # None before the first request
        is_idle = last is None or last.response_complete
        if is_idle and last is answered:
            self.transport.abort()
        else:
            self.loop.call_later(_REQUEST_S, self._close_if_idle_since, last if is_idle else _BUSY)


_BUSY: Final = object()
