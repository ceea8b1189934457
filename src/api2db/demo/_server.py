"""The API of the demo behind a loopback port of its own."""

import json
import sys
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self, cast
from urllib.parse import parse_qsl, urlsplit

from api2db.demo._api import Api, Served

RETRY_AFTER_S = 1


class DemoApi:
    """Serves the slice on a free loopback port; use it as a context manager.

    Accelerated time begins when the API is started. It knows nothing of its clients: they may die, hang up and come
    back.

    Args:
        seconds: Wall time in which the whole slice becomes visible.
        seed: Fixes the faults.
        fault_share: The chance of a fault for a request, from 0 to 1.
        wall_clock_s: Seconds that only rise.
    """

    def __init__(
        self,
        seconds: float = 15.0,
        *,
        seed: int = 2025,
        fault_share: float = 0.15,
        wall_clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._seed = seed
        self._fault_share = fault_share
        self._wall_clock_s = wall_clock_s
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The address, without a slash at the end."""
        host, port = self._running.server_address[:2]
        return f"http://{host!s}:{port}"

    def served(self) -> Served:
        """Give what ``GET /served`` gives, without asking for it over the network."""
        return self._running.api.served()

    def start(self) -> None:
        """Listen, and let accelerated time begin.

        Raises:
            ConfigurationError: ``seconds`` is not greater than 0.
        """
        self._server = _Server(Api(self._seconds, self._seed, self._fault_share, self._wall_clock_s))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="demo-api", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Answer what is being asked, then close the port; does nothing where nothing runs."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server = self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _running(self) -> "_Server":
        if self._server is None:
            raise RuntimeError("The demo's API is not running; start it first.")
        return self._server


class _Server(ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self, api: Api) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.api = api

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over clients that died in the middle of an answer: the demo kills them on purpose."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    timeout = 2

    def do_GET(self) -> None:
        target = urlsplit(self.path)
        status, answer = cast("_Server", self.server).api.answer(target.path, dict(parse_qsl(target.query)))
        self._send(status, json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        """Stay silent: the terminal belongs to the live table."""

    def _send(self, status: HTTPStatus, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            self.send_header("Retry-After", str(RETRY_AFTER_S))
        self.end_headers()
        self.wfile.write(body)
