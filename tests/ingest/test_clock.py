"""The clock makes each call once, when it is due, and has a thread only while there are calls to make."""

import logging
import queue
import threading
import time
from collections.abc import Callable

import pytest

from api2db.ingest._clock import Clock
from tests.ingest.tiny import wait_until

FAR_S = 1e6


class Calls:
    """Calls that tell of themselves."""

    def __init__(self) -> None:
        self.made: queue.SimpleQueue[str] = queue.SimpleQueue()

    def named(self, name: str) -> Callable[[], None]:
        return lambda: self.made.put(name)

    def next(self) -> str:
        return self.made.get(timeout=20)


def clock_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "api2db-clock"]


def test_calls_are_made_in_the_order_in_which_they_are_due() -> None:
    clock, calls, now_s = Clock(), Calls(), time.monotonic()
    with clock._changed:  # none is made before all are known
        for name, due_s in (("third", now_s + 0.15), ("first", now_s + 0.05), ("second", now_s + 0.1)):
            clock.call_by(due_s, calls.named(name))
    assert [calls.next() for _ in range(3)] == ["first", "second", "third"]
    assert time.monotonic() >= now_s + 0.15


def test_a_call_is_made_once_at_the_earliest_of_its_times() -> None:
    clock, calls, now_s = Clock(), Calls(), time.monotonic()
    call = calls.named("once")
    with clock._changed:
        for due_s in (now_s + FAR_S, now_s + 0.05, now_s + 0.15):
            clock.call_by(due_s, call)
        clock.call_by(now_s + 0.1, calls.named("after"))
        clock.call_by(now_s + 0.2, calls.named("last"))
    assert [calls.next() for _ in range(3)] == ["once", "after", "last"]


def test_a_forgotten_call_is_not_made_and_the_thread_ends_behind_the_last() -> None:
    clock, calls, now_s = Clock(), Calls(), time.monotonic()
    forgotten = calls.named("forgotten")
    with clock._changed:
        clock.call_by(now_s + 0.05, forgotten)
        clock.call_by(now_s + 0.1, calls.named("kept"))
        clock.forget(forgotten)
    assert calls.next() == "kept"
    wait_until(lambda: not clock_threads())
    clock.call_by(time.monotonic() + FAR_S, forgotten)
    assert clock_threads()
    clock.forget(forgotten)
    wait_until(lambda: not clock_threads())


def test_calls_that_are_forgotten_again_and_again_take_no_room() -> None:
    clock, calls = Clock(), Calls()
    kept = calls.named("kept")
    clock.call_by(time.monotonic() + FAR_S, kept)
    forgotten = calls.named("forgotten")
    for number in range(1000):
        clock.call_by(time.monotonic() + FAR_S - number, forgotten)
        clock.forget(forgotten)
    assert len(clock._heap) < 100
    clock.forget(kept)


def test_a_call_that_raises_does_not_stop_the_clock(caplog: pytest.LogCaptureFixture) -> None:
    clock, calls, now_s = Clock(), Calls(), time.monotonic()

    def fails() -> None:
        raise RuntimeError("a fault of ours")

    clock.call_by(now_s, fails)
    clock.call_by(now_s + 0.05, calls.named("next"))
    assert calls.next() == "next"
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
