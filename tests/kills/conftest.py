"""The zygote of this folder's tests, and what they say at the end of the run."""

from collections.abc import Iterator

import pytest

from tests.kills.zygote import Zygote


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    zygote = Zygote(tmp_path_factory.mktemp("zygote") / "errors")
    yield zygote
    zygote.close()


@pytest.fixture
def say(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Lines for the end of the run; as properties of the test they get there from another process, too."""
    said: list[str] = []
    yield said
    request.node.user_properties += [("said", line) for line in said]
