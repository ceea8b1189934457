"""Politeness towards one host: its rate limits, and the pauses that it asks for, for all polls of this process."""

import datetime
import email.utils
import re
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from api2db.rest._arguments import Rate

_CALL_S: Final = 0.05
"""How long to wait where a call under way must end first."""
_LONGEST_S: Final = 86_400.0
"""The longest pause that an API is believed to ask for."""
_EPOCHS: Final = ((1e18, 1e9), (1e15, 1e6), (1e12, 1e3), (1e9, 1.0))
"""From which value on a number is a moment since 1970, and its ticks in a second."""
_REMAINING: Final = ("x-ratelimit-remaining", "x-rate-limit-remaining", "ratelimit-remaining")
_RESET: Final = ("x-ratelimit-reset", "x-rate-limit-reset", "ratelimit-reset")


class _Window:
    """The calls that count for one rate: those under way, and when the last ones ended."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self.under_way = 0
        self.ended_s: deque[float] = deque()

    def free_in_s(self, now_s: float) -> float | None:
        """In how many seconds another call may begin; None where a call under way must end first."""
        while self.ended_s and self.ended_s[0] + self._rate.period_s <= now_s:
            self.ended_s.popleft()
        if self.under_way + len(self.ended_s) < self._rate.calls:
            return 0.0
        return self.ended_s[0] + self._rate.period_s - now_s if self.ended_s else None


class Pace:
    """When calls to a host may be made.

    A call counts from its begin until a period after its end. So no period has more calls than the rate at the server
    either, however late a call reaches it.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._windows: dict[Rate, _Window] = {}
        self._paused_until_s = 0.0

    @contextmanager
    def call(self, rates: tuple[Rate, ...], longest_s: float) -> Iterator[float]:
        """Wait until a call may be made, and count it while the block runs.

        Args:
            rates: The rates that it counts for.
            longest_s: How long to wait at most.

        Yields:
            The seconds that were waited.

        Raises:
            TooLongError: It would take longer; the call is not counted.
        """
        waited_s = self.begin(rates, longest_s)
        try:
            yield waited_s
        finally:
            self.end(rates)

    def begin(self, rates: tuple[Rate, ...], longest_s: float) -> float:
        """Wait as ``call`` does; return the seconds waited. The call counts until ``end``."""
        begin_s = time.monotonic()
        with self._changed:
            while (wait_s := self._try_begin(rates)) is not None:
                left_s = begin_s + longest_s - time.monotonic()
                if left_s <= wait_s:
                    raise TooLongError(wait_s)
                self._changed.wait(wait_s)
        return time.monotonic() - begin_s

    def try_begin(self, rates: tuple[Rate, ...]) -> float | None:
        """Begin a call without waiting; return None, or in how many seconds to try again if it may not begin."""
        with self._changed:
            return self._try_begin(rates)

    def end(self, rates: tuple[Rate, ...]) -> None:
        """End a call."""
        with self._changed:
            for rate in rates:
                self._windows[rate].under_way -= 1
                self._windows[rate].ended_s.append(time.monotonic())
            self._changed.notify_all()

    def pause(self, seconds: float) -> None:
        """Let no further call begin for so long."""
        with self._changed:
            self._paused_until_s = max(self._paused_until_s, time.monotonic() + seconds)

    def _try_begin(self, rates: tuple[Rate, ...]) -> float | None:
        windows = [self._windows.setdefault(rate, _Window(rate)) for rate in rates]
        if (wait_s := self._wait_s(windows, time.monotonic())) > 0:
            return wait_s
        for window in windows:
            window.under_way += 1
        return None

    def _wait_s(self, windows: list[_Window], now_s: float) -> float:
        found = [window.free_in_s(now_s) for window in windows]
        waits_s = [_CALL_S if wait_s is None else wait_s for wait_s in found]
        return max([0.0, self._paused_until_s - now_s, *waits_s])


class TooLongError(Exception):
    """A call would wait longer than it may.

    Args:
        wait_s: How long.
    """

    def __init__(self, wait_s: float) -> None:
        super().__init__(wait_s)
        self.wait_s = wait_s


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """What ``Retry-After`` asks for, given in seconds or as a date; None where it asks for nothing.

    A pause of more than a day is taken for a mistake of the API, so for nothing.
    """
    said = headers.get("retry-after", "").strip()
    if _is_number(said):
        return _pause_s(float(said))
    until_s = _moment_s(said)
    return None if until_s is None else _bounded_s(until_s - time.time())


def date_s(headers: Mapping[str, str]) -> float:
    """When a response was made, by the server's clock where it tells, in seconds since 1970."""
    made_s = _moment_s(headers.get("date", ""))
    return time.time() if made_s is None else made_s


def limit_reset_s(headers: Mapping[str, str]) -> float | None:
    """In how many seconds a spent rate limit begins again; None where calls are left, or nothing is said.

    Three forms are read: ``X-RateLimit-Remaining`` and ``X-RateLimit-Reset`` (a moment since 1970, or seconds from
    now), ``RateLimit-Remaining`` and ``RateLimit-Reset`` (seconds from now), and the one header ``RateLimit``.
    """
    remaining, reset = _first(headers, _REMAINING), _first(headers, _RESET)
    if (said := headers.get("ratelimit")) is not None:
        fields = dict(re.findall(r"\b(remaining|reset|r|t)\s*=\s*(\d+(?:\.\d+)?)", said))
        remaining = fields.get("remaining", fields.get("r", remaining))
        reset = fields.get("reset", fields.get("t", reset))
    if remaining is None or reset is None or not _is_number(remaining) or not _is_number(reset) or float(remaining) > 0:
        return None
    return _pause_s(float(reset))


def _pause_s(value: float) -> float | None:
    """A pause that is given in seconds, or as the moment of its end since 1970 in any unit; None if it is too long."""
    for epoch_from, ticks in _EPOCHS:
        if value >= epoch_from:
            return _bounded_s(value / ticks - time.time())
    return _bounded_s(value)


def _bounded_s(pause_s: float) -> float | None:
    return max(0.0, pause_s) if pause_s <= _LONGEST_S else None


def _moment_s(text: str) -> float | None:
    """A date of HTTP in seconds since 1970; None where it is none, or lies outside of what a clock can say."""
    try:
        found = email.utils.parsedate_to_datetime(text)
        return (found if found.tzinfo else found.replace(tzinfo=datetime.UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _first(headers: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((headers[name] for name in names if name in headers), None)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\s*\d+(?:\.\d+)?\s*", text) is not None
