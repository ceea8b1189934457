"""The page beside a run: a process of its own, which is restarted when it dies and ends with the run."""

import signal
import sys
from pathlib import Path

import httpx2
import psutil
import pytest

from api2db.app._page import page_beside
from api2db.errors import MissingExtraError
from tests.servers.processes import free_port
from tests.stream.eventually import eventually


def answers(port: int) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/healthz").text == "ok\n"
    except httpx2.TransportError:
        return False


def page_process(port: int) -> psutil.Process:
    [found] = [child for child in psutil.Process().children() if f"127.0.0.1:{port}" in child.cmdline()]
    return found


def test_the_page_is_served_restarted_and_ended(tmp_path: Path) -> None:
    port, said = free_port(), list[str]()
    with page_beside(tmp_path, f"127.0.0.1:{port}", said.append):
        eventually(lambda: answers(port), 60)
        first = page_process(port)
        first.send_signal(signal.SIGKILL)
        eventually(lambda: not first.is_running() or first.status() == psutil.STATUS_ZOMBIE)
        eventually(lambda: answers(port), 60)
        assert page_process(port).pid != first.pid
        last = page_process(port)
    eventually(lambda: not last.is_running())
    assert said.count(f"The page is at http://127.0.0.1:{port}/") == 2


def test_an_address_that_can_not_be_used_is_said_once(tmp_path: Path) -> None:
    said = list[str]()
    with page_beside(tmp_path, "127.0.0.1:x", said.append):
        eventually(lambda: said, 60)
    assert len(said) == 1
    assert "write HOST:PORT" in said[0]


def test_without_the_extra_the_run_says_which_one_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(MissingExtraError, match="web"), page_beside(tmp_path, "127.0.0.1:1", print):
        pass
