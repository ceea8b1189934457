"""A project with a run's figures, and its page served by the command in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from tests.servers.processes import free_port
from tests.stream.eventually import eventually


class Page:
    """A page that is served.

    Attributes:
        url: Where it is, without a slash at the end.
        said: What the command has printed first.
    """

    def __init__(self, home: Path, host: str, port: int) -> None:
        self.url = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"
        command = [sys.executable, "-m", "api2db", "web", f"{host}:{port}", "--home", str(home)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
        )
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()
        eventually(self._answers)

    def get(self, path: str, **options: object) -> httpx2.Response:
        return httpx2.get(f"{self.url}{path}", timeout=30, **options)  # type: ignore[arg-type]

    def end(self) -> None:
        """End it, as a person or a supervisor does."""
        self.process.terminate()
        assert self.process.wait(20) == 0
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _answers(self) -> bool:
        with suppress(httpx2.TransportError):
            httpx2.get(f"{self.url}/healthz")
            return True
        return False


@pytest.fixture
def serve() -> Iterator[Callable[..., Page]]:
    """Serve the page of a project, until the test has ended."""
    pages: list[Page] = []

    def serve(home: Path, host: str = "127.0.0.1", port: int | None = None) -> Page:
        pages.append(Page(home, host, port or free_port()))
        return pages[-1]

    yield serve
    for page in pages:
        page.end()
