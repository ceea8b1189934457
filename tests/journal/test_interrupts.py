"""Signals whose handlers raise while the main thread is in a journal, and other errors at bad moments."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from api2db import interrupts
from api2db.errors import BacklogFullError
from api2db.interrupts import uninterrupted
from api2db.journal import NotAttachedError, StreamIdentity
from api2db.journal._core import Core
from api2db.journal._store import open_shared
from tests.faults.children import ROOT, acknowledged
from tests.journal.conftest import Opener
from tests.journal.tools import STREAM, delivered_from, drain, frame


class Interrupt(BaseException):
    """What the handler of a signal raises."""


@pytest.fixture
def interrupting() -> Iterator[None]:
    """The handler of SIGALRM raises."""

    def interrupt(*_: object) -> NoReturn:
        raise Interrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def interrupt_puts(tmp_path: Path, durability: str, seconds: float, seed: int) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-m", "tests.journal.interrupted"]
    command += [str(tmp_path), str(log), durability, str(seconds), str(seed)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds + 60, check=False)
    assert done.stdout.endswith(" interrupts"), done.stdout + done.stderr
    assert int(done.stdout.split()[0]) > 10 * seconds, "signals arrive during puts"
    found, known = delivered_from(tmp_path), acknowledged(log)
    assert found == sorted(set(found)), "in order, and once"
    assert set(known) <= set(found), "what was acknowledged is there"


@pytest.mark.parametrize("durability", ["full", "process"])
def test_puts_that_signals_interrupt_at_random_lose_and_double_nothing(tmp_path: Path, durability: str) -> None:
    interrupt_puts(tmp_path, durability, seconds=4, seed=1)


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("durability", ["full", "process"])
def test_thousands_of_interrupted_puts_lose_and_double_nothing(tmp_path: Path, durability: str) -> None:
    for seed in range(5):
        interrupt_puts(tmp_path / str(seed), durability, seconds=30, seed=seed)


@pytest.mark.usefixtures("interrupting")
@pytest.mark.parametrize("call", ["writev", "fdatasync"])
def test_a_put_that_a_signal_interrupts_in_a_system_call_costs_no_later_put(
    opened: Opener, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    journal = opened()
    _, log = journal.attach(STREAM)
    journal.append([frame(0)])
    real: Callable[..., Any] = getattr(os, call)

    def interrupted(*arguments: Any) -> Any:
        result = real(*arguments)
        os.kill(os.getpid(), signal.SIGALRM)
        return result

    with monkeypatch.context() as patched:
        patched.setattr(os, call, interrupted)
        with pytest.raises(Interrupt):
            journal.append([frame(1)])
    journal.append([frame(2)])
    journal.attach(StreamIdentity("another stream, so that a new segment begins", "local.parquet"))
    journal.append([frame(3)])
    assert drain(log) == [0, 1, 2, 3]


@pytest.mark.usefixtures("interrupting")
def test_an_interrupt_ends_a_put_that_waits_for_room_and_nothing_of_it_is_stored(opened: Opener) -> None:
    journal = opened()
    _, log = journal.attach(StreamIdentity("small", "local.parquet", quota_bytes=1000))
    journal.append([frame(0, size_bytes=500)])
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    began_s = time.monotonic()
    with pytest.raises(Interrupt):
        journal.append([frame(1, size_bytes=500)])
    assert time.monotonic() - began_s < 1.5
    with pytest.raises(BacklogFullError):
        journal.append([frame(2, size_bytes=500)], block=False)
    assert drain(log) == [0]
    journal.append([frame(3, size_bytes=500)])
    assert drain(log) == [3]


def test_a_signal_handler_may_put_while_a_put_waits_for_room(opened: Opener) -> None:
    journal = opened()
    _, small = journal.attach(StreamIdentity("small", "local.parquet", quota_bytes=1000))
    stream_no, other = journal.attach(STREAM)
    journal.append([frame(0, size_bytes=500)])

    def put(*_: object) -> None:
        journal.append([frame(1)], stream_no=stream_no)

    before = signal.signal(signal.SIGALRM, put)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(BacklogFullError):
            journal.append([frame(2, size_bytes=500)], timeout_s=0.5)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert drain(small) == [0]
    assert drain(other) == [0, 1]


@pytest.mark.usefixtures("interrupting")
def test_an_interrupt_is_raised_when_the_call_has_ended() -> None:
    ended = threading.Event()

    @uninterrupted
    def call() -> None:
        os.kill(os.getpid(), signal.SIGALRM)
        time.sleep(0.2)
        ended.set()

    with pytest.raises(Interrupt):
        call()
    assert ended.is_set()


def test_calls_are_made_although_the_thread_that_idles_ends_at_that_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "_IDLE_S", 0.0005)
    threads = interrupts._Threads()
    for number in range(1000):
        assert threads.make(lambda number=number: number) == number  # type: ignore[misc]
        time.sleep(0.0005)
    while any(thread.name == "api2db-calls" for thread in threading.enumerate()):
        time.sleep(0.01)
    assert threads._idle == 0


def test_after_an_unexpected_error_the_journal_is_closed_and_the_next_open_repairs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_shared(tmp_path, "flights", "process")
    first.journal.attach(STREAM)
    first.journal.append([frame(0)])

    def fail(*_: object) -> NoReturn:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(Core, "publish", fail)
        with pytest.raises(MemoryError):
            first.journal.append([frame(1)])
    with pytest.raises(NotAttachedError):
        first.journal.append([frame(2)])
    second = open_shared(tmp_path, "flights", "process")
    _, log = second.journal.attach(STREAM)
    second.journal.append([frame(3)])
    assert drain(log) == [0, 1, 3], "a put that raised may be stored"
    first.release()
    second.journal.append([frame(4)])
    assert drain(log) == [4]
    second.release()
