"""Serving the page."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

import uvicorn

from api2db.errors import ConfigurationError
from api2db.web._app import web_app
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
    config = uvicorn.Config(
        web_app(home, host, token),
        host=host,
        port=port,
        log_level=logging.WARNING,
        access_log=False,
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE_S,
        proxy_headers=False,
        lifespan="off",
    )
    server = uvicorn.Server(config)
    if until is not None:
        until(lambda: setattr(server, "should_exit", True))
    try:
        server.run()
    except SystemExit as error:  # how uvicorn says that the port is taken
        raise ConfigurationError(f"nothing can listen on {host}:{port}; give another: --web HOST:PORT") from error


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
