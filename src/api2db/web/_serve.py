"""Serving the page."""

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import uvicorn

from api2db.errors import ConfigurationError
from api2db.web._app import web_app
from api2db.web._connection import Connection
from api2db.web._guard import is_loopback, token_of

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8321
_MOST_CONNECTIONS: Final = 512
_GRACE_S: Final = 2


def serve(
    home: Path,
    address: str | None,
    say: Callable[[str], None],
    until: Callable[[Callable[[], None]], None] | None = None,
) -> None:
    """Serve a project's page until SIGINT or SIGTERM.

    Args:
        home: The project's folder.
        address: ``HOST:PORT``, ``HOST`` or ``:PORT``; 127.0.0.1:8321 by default.
        say: Takes the lines for the user: where the page is.
        until: Called with a function that ends the server, from any thread.

    Raises:
        ConfigurationError: The address can't be used.
    """
    host, port = parsed(address)
    token, is_new = (None, False) if is_loopback(host) else token_of(home)
    shown = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
    if token is None:
        say(f"The page is at {shown}")
    elif is_new:
        say(f"The page is at {shown}?token={token} — the token is shown only now, and kept in AUTH/web_token.")
    else:
        say(f"The page is at {shown}?token=… — the token is in AUTH/web_token.")
    app, end_events = web_app(home, token)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=Connection,
        ws="none",
        log_level=logging.ERROR,  # any client can cause its warnings
        access_log=False,
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE_S,
        proxy_headers=False,
        lifespan="off",
    )
    server = _Server(config, end_events)
    if until is not None:
        until(server.end)
    try:
        server.run()
    except SystemExit as error:  # how uvicorn says that the port is taken
        raise ConfigurationError(f"nothing can listen on {host}:{port}; give another: --web HOST:PORT") from error


class _Server(uvicorn.Server):
    """Ends on SIGINT and SIGTERM with exit code 0; uvicorn's own handling kills the process by the same signal."""

    def __init__(self, config: uvicorn.Config, end_events: Callable[[], None]) -> None:
        super().__init__(config)
        self._end_events = end_events

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle the two signals while the block runs."""
        signals = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(each, lambda *_: self.end()) for each in signals]
        try:
            yield
        finally:
            for each, handler in zip(signals, before, strict=True):
                signal.signal(each, handler)

    def end(self) -> None:
        """End; open connections are closed."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self._end_events()


def parsed(address: str | None) -> tuple[str, int]:
    """Return host and port.

    Raises:
        ConfigurationError: The text is no address.
    """
    if not address:
        return DEFAULT_HOST, DEFAULT_PORT
    host, colon, port = address.rpartition(":")
    if not colon or (address.startswith("[") and address.endswith("]")):
        host, port = address, ""
    host = host.strip("[]") or DEFAULT_HOST
    if port and not (port.isdecimal() and int(port) < 1 << 16):
        raise ConfigurationError(f"{address!r} is no address; write HOST:PORT, such as 127.0.0.1:{DEFAULT_PORT}")
    return host, int(port) if port else DEFAULT_PORT
