"""A collector whose polls keep failing is polled more rarely until one succeeds."""

import time
from pathlib import Path
from typing import Any

import pytest

from api2db.ingest import Collector, Runner
from api2db.ingest._slowdown import FAILURES, Slowdown
from tests.ingest.tiny import TinyStream, stopping, wait_until


def gaps(slowdown: Slowdown, interval_s: float, count: int) -> list[int]:
    """The intervals between failed polls, each of which takes a tenth of one."""
    found, tick = [], 0
    for _ in range(count):
        begun = tick
        slowdown.failed((tick + 0.1) * interval_s)
        tick += 1
        while slowdown.holds(tick * interval_s):
            tick += 1
        found.append(tick - begun)
    return found


@pytest.mark.parametrize(
    ("interval_s", "then"),
    [(1, [2, 4, 8, 10, 10]), (60, [2, 4, 8, 10, 10]), (1200, [2, 3, 3, 3, 3]), (7200, [1, 1, 1, 1, 1])],
)
def test_after_five_failures_the_interval_is_stretched_up_to_ten_times_or_an_hour(
    interval_s: float, then: list[int]
) -> None:
    slowdown = Slowdown(interval_s)
    assert gaps(slowdown, interval_s, FAILURES + 4) == [1] * (FAILURES - 1) + then
    slowdown.succeeded()
    assert gaps(slowdown, interval_s, FAILURES) == [1] * (FAILURES - 1) + then[:1]


def test_the_next_poll_is_told_only_while_it_is_delayed() -> None:
    slowdown = Slowdown(60)
    for _ in range(FAILURES - 1):
        slowdown.failed(0)
    assert slowdown.next_tick_s(60) is None
    slowdown.failed(0)
    assert slowdown.next_tick_s(60) == 120


def test_a_collector_that_fails_polls_more_rarely_until_it_succeeds(tmp_path: Path) -> None:
    polled_s: list[float] = []
    fails = True

    def poll() -> list[dict[str, Any]]:
        polled_s.append(time.monotonic())
        if fails:
            raise ValueError("no answer")
        return [{"id": len(polled_s)}]

    runner = Runner(Collector("cities", 0.05, poll, [TinyStream("cities", home=tmp_path)]))
    with stopping(runner):
        runner.start()
        wait_until(lambda: len(polled_s) >= FAILURES + 4)
        assert polled_s[-1] - polled_s[-2] > 0.3
        wait_until(lambda: runner.status.next_poll_at)
        assert runner.status.next_poll_at is not None
        assert runner.status.next_poll_at - time.time() < 0.6
        assert runner.status.failed_in_row == runner.status.failed >= FAILURES
        fails = False
        wait_until(lambda: runner.status.rows >= 3)
        assert min(after - before for before, after in zip(polled_s[-3:], polled_s[-2:], strict=False)) < 0.3
        assert runner.status.next_poll_at is None
        assert runner.status.failed_in_row == 0
