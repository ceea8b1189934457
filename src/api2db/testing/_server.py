"""A local API server whose responses come from a function."""

import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Call:
    """A request as the server received it.

    Attributes:
        params: The parameters of the query; of a repeated one the last value.
        query: The query as it was sent.
        headers: Their names in lower case.
        base: The server's URL, for links.
        query: The query as it came, for signatures.
    """

    method: str
    path: str
    params: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    base: str
    query: str = ""

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """A response of the server.

    Attributes:
        body: Bytes are sent unchanged, everything else as JSON.
        midway: Called after half of the body has been sent.
        pause_s: The delay after each byte of the body.
    """

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    midway: Callable[[], object] | None = None
    pause_s: float = 0.0

    @property
    def content(self) -> bytes:
        """The bytes of the body."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


Answer = Callable[[Call], Reply]


class ApiServer:
    """A server on a free loopback port. It runs until it is closed.

    Args:
        answer: Called with each request, in its own thread.

    Attributes:
        answer: May be replaced at any time.
        asked: The requests so far.
    """

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[Call] = []
        self._server = _QuietServer(("127.0.0.1", 0), _handler_for(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The address, without a trailing slash."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class _QuietServer(ThreadingHTTPServer):
    """A server that ignores clients that disconnect before they have the response."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def _send(file: BufferedIOBase, reply: Reply) -> None:
    """Send a body, with its faults."""
    content, half = reply.content, len(reply.content) // 2
    if reply.pause_s:
        for place in range(len(content)):
            file.write(content[place : place + 1])
            file.flush()
            time.sleep(reply.pause_s)
    elif reply.midway is not None:
        file.write(content[:half])
        file.flush()
        reply.midway()
        file.write(content[half:])
    else:
        file.write(content)


def _handler_for(server: ApiServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # one packet a reply
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            call = self._call()
            server.asked.append(call)
            reply = server.answer(call)
            has_body = reply.status != 304 and call.method != "HEAD"
            self.send_response_only(reply.status)
            if "Date" not in reply.headers:
                self.send_header("Date", self.date_time_string())
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if "Content-Length" not in reply.headers and has_body:
                self.send_header("Content-Length", str(len(reply.content)))
            self.end_headers()
            if has_body:
                _send(self.wfile, reply)

        do_POST = do_PUT = do_HEAD = do_GET

        def _call(self) -> Call:
            parts = urlsplit(self.path)
            params = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            return Call(self.command, parts.path, params, headers, body, server.url, parts.query)

        def log_message(self, *arguments: object) -> None:
            pass

    return Handler
