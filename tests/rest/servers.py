"""API servers that behave as the published docs of well-known APIs say, on this machine."""

import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit


@dataclass(frozen=True)
class Asked:
    """A request as it reached the server."""

    method: str
    path: str
    params: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    base: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """What the server answers; ``body`` is JSON unless it is bytes. ``midway`` is called when half of it is sent."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    midway: Callable[[], object] | None = None

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


Answer = Callable[[Asked], Reply]


class _QuietServer(ThreadingHTTPServer):
    """Clients are killed while they are answered, which is no error of the server's."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Server:
    """A running server, and what it was asked."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self._server = _QuietServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # one packet a reply
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                params = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(self.command, parts.path, params, headers, body, server.url)
                server.asked.append(asked)
                reply = server.answer(asked)
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in reply.headers and reply.status != 304:
                    self.send_header("Content-Length", str(len(reply.content)))
                self.end_headers()
                if reply.midway is not None:
                    self.wfile.write(reply.content[: len(reply.content) // 2])
                    self.wfile.flush()
                    reply.midway()
                    self.wfile.write(reply.content[len(reply.content) // 2 :])
                elif reply.status != 304:
                    self.wfile.write(reply.content)

            do_POST = do_GET

            def log_message(self, *arguments: object) -> None:
                pass

        return Handler


@contextmanager
def serving(answer: Answer) -> Iterator[Server]:
    server = Server(answer)
    try:
        yield server
    finally:
        server.close()


class GitHub:
    """The list of issues: ``since`` by ``updated_at``, newest created first, pages by the Link header."""

    def __init__(self, issues: list[dict[str, Any]]) -> None:
        self.issues = issues
        self.version = 0

    def __call__(self, asked: Asked) -> Reply:
        since = asked.params.get("since", "")
        found = [issue for issue in reversed(self.issues) if issue["updated_at"] >= since]
        size, number = int(asked.params.get("per_page", 30)), int(asked.params.get("page", 1))
        etag = f'"{self.version}-{since}-{number}"'
        if asked.headers.get("if-none-match") == etag:
            return Reply(status=304, headers={"ETag": etag})
        headers = {"ETag": etag}
        if number * size < len(found):
            query = urlencode({**asked.params, "page": number + 1})
            headers["Link"] = f'<{asked.base}{asked.path}?{query}>; rel="next", <{asked.base}/x?page=9>; rel="last"'
        return Reply(found[(number - 1) * size : number * size], headers=headers)


def issue(number: int, minute: int | None = None, **more: Any) -> dict[str, Any]:
    """An issue that was updated at a minute of a day."""
    at = number if minute is None else minute
    updated = f"2024-05-{1 + at // 1440:02}T{at // 60 % 24:02}:{at % 60:02}:00Z"
    return {"id": number, "title": f"issue {number}", "updated_at": updated, "user": {"login": "ann"}, **more}
