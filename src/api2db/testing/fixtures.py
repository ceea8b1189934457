"""Fixtures for pytest. Enable them with ``pytest_plugins = ["api2db.testing.fixtures"]``."""

import re
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from api2db.testing._cassette import Cassette
from api2db.testing._server import Answer, ApiServer

_failed: pytest.StashKey[bool] = pytest.StashKey()


@pytest.fixture
def api_server() -> Iterator[Callable[[Answer], ApiServer]]:
    """Start servers, such as ``api_server(pages_of(rows))``. They are closed after the test."""
    with ExitStack() as stack:
        yield lambda answer: stack.enter_context(ApiServer(answer))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep whether a test has failed, for its fixtures."""
    report = yield
    if report.when == "call":
        item.stash[_failed] = report.failed
    return report


@pytest.fixture
def cassette(request: pytest.FixtureRequest) -> Iterator[Callable[..., Cassette]]:
    """Record the answers of an API once, in ``cassettes/`` beside the test, and replay them from then on.

    A test that fails records nothing. Call it with the API's URL; ``secret_params`` and ``secrets`` are those of
    Cassette.
    """
    folder = Path(request.path).parent / "cassettes"
    file = re.sub(r"[^\w.\[\]=-]", "_", request.node.name)
    made: list[Cassette] = []
    with ExitStack() as stack:

        def make(api: str, secret_params: Collection[str] = (), secrets: Collection[str] = ()) -> Cassette:
            folder.mkdir(exist_ok=True)
            found = Cassette(folder / f"{file}.json", api, secret_params=secret_params, secrets=secrets)
            made.append(stack.enter_context(found))
            return made[-1]

        yield make
        if request.node.stash.get(_failed, False):
            for recording in made:
                recording.discard()
