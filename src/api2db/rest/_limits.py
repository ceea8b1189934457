"""What a response's headers say about rate limits and pauses."""

import email.utils
import re
import time
from collections.abc import Mapping
from typing import Final

_EPOCH_FROM_S: Final = 1e9
_EPOCH_FROM_MS: Final = 1e12
_REMAINING: Final = ("x-ratelimit-remaining", "x-rate-limit-remaining", "ratelimit-remaining")
_RESET: Final = ("x-ratelimit-reset", "x-rate-limit-reset", "ratelimit-reset")


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


def date_s(headers: Mapping[str, str]) -> float:
    """When a response was made, by the server's clock where it tells, in seconds since 1970."""
    try:
        return email.utils.parsedate_to_datetime(headers.get("date", "")).timestamp()
    except ValueError:
        return time.time()


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
