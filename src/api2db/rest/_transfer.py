"""Transfer: sends requests as they are to hosts that may be asked, and reads no more than the limits allow."""

import time
from collections.abc import Collection
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import httpx2

from api2db.rest._addresses import Origin, public_address
from api2db.rest._auth import Added
from api2db.rest._effects import Answer, Call, Read, Send, Steps
from api2db.rest._encoding import ACCEPTED, Decompression
from api2db.rest._hosts import Host
from api2db.rest._lines import Lines
from api2db.rest._messages import Limits, Request
from api2db.rest._urls import with_params

_HEADERS: Final = {
    "Accept": "*/*",
    "Connection": "keep-alive",
    "User-Agent": "api2db",
    "Accept-Encoding": ACCEPTED,
}


class Transfer:
    """The transport of one poll: one request and its response, without authentication, redirects and retries.

    Args:
        limits: What bounds each response.
        trusted: The origins that may have private addresses unless ``limits`` say otherwise; more may be added later.
        until_s: When the poll must have ended, in seconds of ``time.monotonic``.
    """

    def __init__(self, limits: Limits, trusted: Collection[Origin], until_s: float) -> None:
        self._limits = limits
        self._trusted = trusted
        self._until_s = until_s

    def prepared(self, origin: Origin, request: Request, added: Added) -> Steps[httpx2.Request]:
        """Return a request that can be sent, with what authentication adds to it."""
        url, headers, extensions = yield from self._pinned(origin, with_params(request.url, added.params))
        # Waiting for a connection of the pool says nothing about the server: it may last as long as the poll.
        pool_s = max(1.0, self._until_s - time.monotonic())
        timeout = httpx2.Timeout(self._limits.read_s, connect=self._limits.connect_s, pool=pool_s)
        return httpx2.Request(
            request.method,
            url,
            headers={**_HEADERS, **headers, **request.headers, **added.headers},
            content=request.json,
            extensions={"timeout": timeout.as_dict(), **extensions},
        )

    def answered(
        self, host: Host, request: httpx2.Request, *, in_lines: bool = False
    ) -> Steps[tuple[httpx2.Response, Any]]:
        """Send a request as it is, and read the body, or return the lines of it.

        Args:
            host: Where to send it.
            request: What to send.
            in_lines: Whether the body of a 2xx response is left to be read as lines.
        """
        answer: Answer = yield Send(host, request, self._until_s)
        if in_lines and 200 <= answer.response.status_code < 300:
            return answer.response, Lines(answer, self._limits.response_bytes, self._until_s)
        return answer.response, (yield from self._body(answer))

    def _pinned(self, origin: Origin, url: str) -> Steps[tuple[str, dict[str, str], dict[str, Any]]]:
        """A URL with the address that was checked instead of the host's name, where private ones are refused."""
        allowed = self._limits.allow_private
        if allowed or (allowed is None and origin in self._trusted):
            return url, {}, {}
        address: str = yield Call(lambda: public_address(origin), self._until_s)
        parts = urlsplit(url)
        netloc = f"[{address}]:{origin.port}" if ":" in address else f"{address}:{origin.port}"
        return (
            urlunsplit((parts.scheme, netloc, parts.path, parts.query, "")),
            {"Host": parts.netloc.rpartition("@")[2]},
            {"sni_hostname": origin.host},
        )

    def _body(self, answer: Answer) -> Steps[bytes]:
        encoding = answer.response.headers.get("content-encoding", "")
        decompression = Decompression(encoding, self._limits.response_bytes, self._limits.decompressed_bytes)
        pieces: list[bytes] = []
        data = answer.first
        while True:
            pieces += decompression.feed(data)
            if answer.is_over:
                decompression.end()
                return b"".join(pieces)
            data = yield Read(answer, self._until_s)
