"""A JSON server on a free loopback port, whose answers are a function."""

import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

RETRY_AFTER_S = 1

Query = Mapping[str, str]
Answer = dict[str, Any]
Answers = Callable[[str, Query], tuple[HTTPStatus, Answer]]


class JsonServer:
    """Serves until it is closed. Clients may be killed, disconnect and reconnect.

    Args:
        answers: Called with the path and the query of each GET, in a thread of its own.
    """

    def __init__(self, answers: Answers) -> None:
        _bypass_proxies()
        self._server = _Server(answers)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="demo-api", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The address, without a trailing slash."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def close(self) -> None:
        """Finish the current requests, then close the port."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self, answers: Answers) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = answers

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that were killed in the middle of an answer: the demo does that on purpose."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    timeout = 2

    def do_GET(self) -> None:
        target = urlsplit(self.path)
        status, answer = cast("_Server", self.server).answers(target.path, dict(parse_qsl(target.query)))
        self._send(status, json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        """Print nothing: the live table uses the terminal."""

    def _send(self, status: HTTPStatus, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            self.send_header("Retry-After", str(RETRY_AFTER_S))
        self.end_headers()
        self.wfile.write(body)


def _bypass_proxies() -> None:
    """Let the clients of this process and its children reach loopback addresses if ``HTTP_PROXY`` is set."""
    for name in ("NO_PROXY", "no_proxy"):
        hosts = [host for host in os.environ.get(name, "").split(",") if host]
        if "127.0.0.1" not in hosts:
            os.environ[name] = ",".join([*hosts, "127.0.0.1"])
