"""What the tests of REST sources share: servers that are closed, and polls that end in lists of rows."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from api2db.frames import Refused, python_values, to_batch
from api2db.rest import Resource
from tests.rest.servers import Answer, Server

Serve = Callable[[Answer], Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:
        yield lambda answer: stack.enter_context(Server(answer))


@pytest.fixture(autouse=True)
def shared_files(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where processes share rate limits during a test; a later test may have a server at the same port."""
    folder = tmp_path_factory.mktemp("shared")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


class Polled:
    """Polls of one resource, whose rows and state are kept as a journal keeps them."""

    def __init__(self, resource: Resource) -> None:
        self.resource = resource
        self.state: dict[str, Any] = {}
        self.rows: list[dict[str, Any]] = []
        self.refused: list[Refused] = []

    def poll(self) -> list[dict[str, Any]]:
        """Poll once; return the rows of this poll."""
        before = len(self.rows)
        for page in self.resource(self.state):
            self.take(page)
        return self.rows[before:]

    def take(self, page: Sequence[Any] | None) -> None:
        """Keep what a page gave."""
        for frame in page or ():
            if isinstance(frame, Refused):
                self.refused.append(frame)
            else:
                self.rows += rows_of(frame)


def rows_of(frame: Any) -> list[dict[str, Any]]:
    if isinstance(frame, list):
        return frame
    batch = to_batch(frame)
    columns = [python_values(column) for column in batch.columns]
    return [dict(zip(batch.schema.names, cells, strict=True)) for cells in zip(*columns, strict=True)]
