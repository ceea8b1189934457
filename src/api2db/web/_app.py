"""The page's HTTP application."""

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from api2db.app._rejects import drop_file, find_file, retry_file
from api2db.app.figures import read_figures
from api2db.app.health import troubles
from api2db.errors import Api2dbError
from api2db.texts import redact
from api2db.web._documents import Documents
from api2db.web._feed import Feed
from api2db.web._guard import Guard
from api2db.web._metrics import exposition

_TYPES: Final = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


def web_app(home: Path, token: str | None) -> tuple[ASGIApp, Callable[[], None]]:
    """Return the application of a project, and a function that ends its streams of events.

    Args:
        home: The project's folder.
        token: See ``Guard``.
    """
    pages = _Pages(home)
    routes = [
        Route("/", partial(_static, "index.html")),
        Route("/static/{name}", _static_named),
        Route("/events", pages.events),
        Route("/api/collectors/{name}", pages.collector),
        Route("/api/rejected", pages.rejected),
        Route("/api/rejected/rows", pages.rejected_rows),
        Route("/api/rejected/retry", partial(pages.act, retry_file), methods=["POST"]),
        Route("/api/rejected/drop", partial(pages.act, drop_file), methods=["POST"]),
        Route("/metrics", pages.metrics),
        Route("/healthz", pages.health),
        Route("/readyz", pages.ready),
    ]
    guard = Guard(Starlette(routes=routes), token)
    pages.csrf = guard.csrf
    return guard, pages.feed.end


class _Pages:
    def __init__(self, home: Path) -> None:
        self._home = home
        self._documents = Documents(home)
        self.feed = Feed(self._documents.project)
        self.csrf = ""

    async def events(self, _: Request) -> Response:
        """Send the first screen whenever it changes."""
        return StreamingResponse(self.feed.listen(), media_type="text/event-stream")

    async def collector(self, request: Request) -> Response:
        """One collector whole."""
        document = await run_in_threadpool(self._documents.collector, request.path_params["name"])
        if document is None:
            return JSONResponse({"error": "there is no such collector"}, HTTPStatus.NOT_FOUND)
        return JSONResponse(document)

    async def rejected(self, _: Request) -> Response:
        """All files of rejected rows, and what an action needs."""
        return JSONResponse({"csrf": self.csrf, "files": await run_in_threadpool(self._documents.rejected)})

    async def rejected_rows(self, request: Request) -> Response:
        """The rows of one of them."""
        return await _answered(lambda: self._documents.rejected_rows(request.query_params.get("file", "")))

    async def act(self, action: Callable[[Path, str], int], request: Request) -> Response:
        """Retry or drop the rows of a file."""
        file = request.query_params.get("file", "")
        return await _answered(lambda: {"rows": action(self._home, find_file(self._home, file).file)})

    async def metrics(self, request: Request) -> Response:
        """The figures for Prometheus."""
        content, media_type = await run_in_threadpool(exposition, self._home, request.headers.get("accept", ""))
        return Response(content, headers={"Content-Type": media_type})

    async def health(self, _: Request) -> Response:
        """Whether the server answers: what a supervisor restarts it for."""
        return PlainTextResponse("ok\n")

    async def ready(self, _: Request) -> Response:
        """Whether a run is on and nothing keeps rows from their targets; else the reasons, with 503."""
        collectors = await run_in_threadpool(read_figures, self._home)
        wrong = [f"{each.collector}: {each.what}" for each in troubles(collectors) if each.severity == "error"]
        if not any(collector.running for collector in collectors):
            wrong.insert(0, "no run is active")
        text = "\n".join(wrong) or "ok"
        return PlainTextResponse(f"{text}\n", HTTPStatus.SERVICE_UNAVAILABLE if wrong else HTTPStatus.OK)


async def _answered(make: Callable[[], Any]) -> Response:
    try:
        return JSONResponse(await run_in_threadpool(make))
    except Api2dbError as error:
        return JSONResponse({"error": redact(str(error))}, HTTPStatus.CONFLICT)


async def _static(name: str, _: Request) -> Response:
    content = files("api2db.web").joinpath("static", name).read_bytes()
    return Response(content, media_type=_TYPES[Path(name).suffix])


async def _static_named(request: Request) -> Response:
    name = request.path_params["name"]
    known = {found.name for found in files("api2db.web").joinpath("static").iterdir()}
    if name not in known or Path(name).suffix not in _TYPES:
        return PlainTextResponse("not found\n", HTTPStatus.NOT_FOUND)
    return await _static(name, request)
