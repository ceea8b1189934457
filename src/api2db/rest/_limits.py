"""What a response's headers say about rate limits and pauses."""

import datetime
import email.utils
import re
import time
from collections.abc import Mapping
from typing import Final

_CALL_S: Final = 0.05
"""How long to wait if a call under way must end first."""
_LONGEST_S: Final = 86_400.0
"""The longest pause that is obeyed."""
_EPOCHS: Final = ((1e18, 1e9), (1e15, 1e6), (1e12, 1e3), (1e9, 1.0))
"""From which value on a number is a moment since 1970, and its ticks in a second."""
_REMAINING: Final = ("x-ratelimit-remaining", "x-rate-limit-remaining", "ratelimit-remaining")
_RESET: Final = ("x-ratelimit-reset", "x-rate-limit-reset", "ratelimit-reset")


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the pause of ``Retry-After``, which is in seconds or a date; None if there is none.

    A pause of more than a day counts as a mistake of the API and is ignored.
    """
    said = headers.get("retry-after", "").strip()
    if _is_number(said):
        return _pause_s(float(said))
    until_s = _moment_s(said)
    return None if until_s is None else _bounded_s(until_s - time.time())


def date_s(headers: Mapping[str, str]) -> float:
    """Return when a response was made, in seconds since 1970, by the header ``Date`` or else by our clock."""
    made_s = _moment_s(headers.get("date", ""))
    return time.time() if made_s is None else made_s


def limit_reset_s(headers: Mapping[str, str]) -> float | None:
    """Return in how many seconds a spent rate limit is reset; None if calls are left, or no header tells.

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
    """Return a pause that is given in seconds, or as its end since 1970 in any unit; None if it is too long."""
    for epoch_from, ticks in _EPOCHS:
        if value >= epoch_from:
            return _bounded_s(value / ticks - time.time())
    return _bounded_s(value)


def _bounded_s(pause_s: float) -> float | None:
    return max(0.0, pause_s) if pause_s <= _LONGEST_S else None


def _moment_s(text: str) -> float | None:
    """Return a date of HTTP in seconds since 1970; None if the text is not a date, or out of range."""
    try:
        found = email.utils.parsedate_to_datetime(text)
        return (found if found.tzinfo else found.replace(tzinfo=datetime.UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _first(headers: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((headers[name] for name in names if name in headers), None)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\s*\d+(?:\.\d+)?\s*", text) is not None
