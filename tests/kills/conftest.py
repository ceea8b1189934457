"""The zygote of this folder's tests, and what they say at the end."""

from collections.abc import Iterator

import pytest

from tests.kills.zygote import Zygote

_said: list[str] = []


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    zygote = Zygote(tmp_path_factory.mktemp("zygote") / "errors")
    yield zygote
    zygote.close()


@pytest.fixture
def say() -> list[str]:
    """Lines for the end of the run."""
    return _said


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in _said:
        terminalreporter.write_line(line)
