"""Fixtures for pytest. Enable them with ``pytest_plugins = ["api2db.testing.fixtures"]``."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from api2db.testing._cassette import Cassette
from api2db.testing._server import Answer, ApiServer


@pytest.fixture
def api_server() -> Iterator[Callable[[Answer], ApiServer]]:
    """Start servers, such as ``api_server(pages_of(rows))``. They are closed after the test."""
    with ExitStack() as stack:
        yield lambda answer: stack.enter_context(ApiServer(answer))


@pytest.fixture
def cassette(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Cassette]]:
    """Record the responses of an API in ``cassettes/`` beside the test once, and replay them from then on."""
    folder = Path(request.path).parent / "cassettes"
    with ExitStack() as stack:

        def made(api: str) -> Cassette:
            folder.mkdir(exist_ok=True)
            return stack.enter_context(Cassette(folder / f"{request.node.name}.json", api))

        yield made
