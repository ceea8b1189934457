"""Politeness towards one host: its rate limits, and the pauses that it asks for, for all polls of this process."""

import email.utils
import random
import re
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Final

from api2db.rest._arguments import Rate

_SLACK: Final = 1.01
_EPOCH_FROM_S: Final = 1e9
_EPOCH_FROM_MS: Final = 1e12
_LONGEST_BACK_OFF_S: Final = 60.0
_FIRST_BACK_OFF_S: Final = 0.5
_REMAINING: Final = ("x-ratelimit-remaining", "x-rate-limit-remaining", "ratelimit-remaining")
_RESET: Final = ("x-ratelimit-reset", "x-rate-limit-reset", "ratelimit-reset")


class Pace:
    """When the next call to a host may be made. No period of a rate's length ever has more calls than the rate."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[Rate, deque[float]] = {}
        self._paused_until_s = 0.0

    def reserve_s(self, rates: tuple[Rate, ...], longest_s: float) -> float | None:
        """Take the next free moment for a call.

        Args:
            rates: The rates that the call counts for.
            longest_s: How long the caller can wait.

        Returns:
            The seconds to wait until that moment; None if that is too long, and then no call is counted.
        """
        now_s = time.monotonic()
        with self._lock:
            moment_s = max(now_s, self._paused_until_s)
            for rate in rates:
                calls = self._calls.setdefault(rate, deque(maxlen=rate.calls))
                if len(calls) == rate.calls:
                    moment_s = max(moment_s, calls[0] + rate.period_s * _SLACK)
            if moment_s - now_s > longest_s:
                return None
            for rate in rates:
                self._calls[rate].append(moment_s)
        return float(moment_s - now_s)

    def pause(self, seconds: float) -> None:
        """Let no further call begin for so long."""
        with self._lock:
            self._paused_until_s = max(self._paused_until_s, time.monotonic() + seconds)

    @property
    def paused_s(self) -> float:
        """How long the pause still lasts."""
        return max(0.0, self._paused_until_s - time.monotonic())


def back_off_s(attempt: int) -> float:
    """The seconds before the next try after so many that failed: twice as many each time, half of them by chance."""
    whole_s = min(_LONGEST_BACK_OFF_S, _FIRST_BACK_OFF_S * 2 ** (attempt - 1))
    return float(whole_s) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """What ``Retry-After`` asks for, given in seconds or as a date; None where it asks for nothing."""
    said = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d+(?:\.\d+)?", said):
        return float(said)
    try:
        until = email.utils.parsedate_to_datetime(said)
    except ValueError:
        return None
    return max(0.0, until.timestamp() - time.time())


def limit_reset_s(headers: Mapping[str, str]) -> float | None:
    """In how many seconds a spent rate limit begins again; None where calls are left, or nothing is said.

    Three forms are read: ``X-RateLimit-Remaining`` and ``X-RateLimit-Reset`` (seconds since 1970, or from now),
    ``RateLimit-Remaining`` and ``RateLimit-Reset`` (seconds from now), and the one header ``RateLimit``.
    """
    remaining, reset = _first(headers, _REMAINING), _first(headers, _RESET)
    if (said := headers.get("ratelimit")) is not None:
        fields = dict(re.findall(r"\b(remaining|reset|r|t)\s*=\s*(\d+(?:\.\d+)?)", said))
        remaining = fields.get("remaining", fields.get("r", remaining))
        reset = fields.get("reset", fields.get("t", reset))
    if remaining is None or reset is None or not _is_number(remaining) or not _is_number(reset) or float(remaining) > 0:
        return None
    value = float(reset)
    if value >= _EPOCH_FROM_MS:
        return max(0.0, value / 1000 - time.time())
    return max(0.0, value - time.time()) if value >= _EPOCH_FROM_S else value


def _first(headers: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((headers[name] for name in names if name in headers), None)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\s*\d+(?:\.\d+)?\s*", text) is not None
