"""What holds for every test: no home is inherited, and none is made where the suite stands."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest_plugins = ("tests.servers.fixtures",)

ROOT = Path(__file__).parents[1]
FOLDERS_OF_A_HOME = ("STORE", "CACHE", "AUTH", "LOGS")


def pytest_configure() -> None:
    """A suite that a shell started in the background has SIGINT ignored, and its children would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_home_here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("API2DB_HOME", raising=False)
    before = _folders_here()
    yield
    left = _folders_here() - before
    assert not left, f"this test left {sorted(left)} in {ROOT}: give it a home under tmp_path"


def _folders_here() -> set[str]:
    return {name for name in FOLDERS_OF_A_HOME if (ROOT / name).exists()}
