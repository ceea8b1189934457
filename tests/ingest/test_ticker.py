"""Ticks stand still on their ticker."""

from api2db.ingest._clock import Ticker


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_ticks_do_not_drift_with_the_work_between_them() -> None:
    clock = Clock()
    ticker = Ticker(10, clock)
    waited = []
    for work_s in (3.0, 9.5, 0.25):
        clock.now_s += work_s
        waited.append(ticker.next_s - clock.now_s)
        clock.now_s = ticker.next_s
        assert ticker.passed() == 1
    assert waited == [7.0, 0.5, 9.75]
    assert clock.now_s == 130.0


def test_ticks_that_were_missed_are_told_once_and_not_made_up_for() -> None:
    clock = Clock()
    ticker = Ticker(10, clock)
    clock.now_s += 35
    assert ticker.passed() == 3
    assert ticker.passed() == 0
    assert ticker.next_s - clock.now_s == 5
