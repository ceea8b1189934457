"""The fork_server of tests that kill processes, and what they say at the end of the run."""

from collections.abc import Iterator

import pytest

from tests.kills.fork_server import ForkServer


@pytest.fixture(scope="session")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    fork_server = ForkServer(tmp_path_factory.mktemp("fork_server") / "errors")
    yield fork_server
    fork_server.close()


@pytest.fixture
def say(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Lines for the end of the run; as properties of the test they get there from another process, too."""
    said: list[str] = []
    yield said
    request.node.user_properties += [("said", line) for line in said]
