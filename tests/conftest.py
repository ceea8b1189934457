"""For every test: no home is inherited, none is made where the suite stands. And what a run says at its end."""

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from api2db.delivery import _worker as worker
from tests.faults.needs import NOT_TESTED

pytest_plugins = ("tests.journals.fixtures", "tests.kills.fixtures", "tests.servers.fixtures", "tests.servers.nats")

ROOT = Path(__file__).parents[1]
FOLDERS_OF_A_HOME = ("STORE", "CACHE", "AUTH", "LOGS")


settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])


def pytest_configure() -> None:
    """How long an example of hypothesis takes depends on what else the machine does.

    A suite that a shell started in the background has SIGINT ignored, and its children would inherit that.
    """
    settings.load_profile("suite")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests have said, and loudly what could not be tested."""
    reports = [report for each in terminalreporter.stats.values() for report in each if hasattr(report, "when")]
    for line in [line for report in reports if report.when == "teardown" for line in _said(report)]:
        terminalreporter.write_line(line)
    reasons = {str(report.longrepr[2]) for report in reports if report.skipped and isinstance(report.longrepr, tuple)}
    for reason in sorted(reason for reason in reasons if NOT_TESTED in reason):
        terminalreporter.write_line(reason, red=True, bold=True)


def _said(report: pytest.TestReport) -> list[str]:
    return [str(line) for name, line in report.user_properties if name == "said"]


@pytest.fixture(autouse=True)
def _no_home_here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("API2DB_HOME", raising=False)
    before = _folders_here()
    yield
    left = _folders_here() - before
    assert not left, f"this test left {sorted(left)} in {ROOT}: give it a home under tmp_path"


@pytest.fixture
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers of this process retry at once."""
    monkeypatch.setattr(worker, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(worker, "_LONGEST_PAUSE_S", 0.01)
    monkeypatch.setattr(worker, "_JITTER_S", 0.001)


@pytest.fixture
def other_file_system(tmp_path: Path) -> Iterator[Path]:
    """A folder to which nothing can be renamed from ``tmp_path``."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system")
    place = Path(tempfile.mkdtemp(prefix="api2db-test-", dir=memory))
    yield place
    shutil.rmtree(place)


def _folders_here() -> set[str]:
    return {name for name in FOLDERS_OF_A_HOME if (ROOT / name).exists()}
