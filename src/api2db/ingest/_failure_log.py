"""A log of repeated failures: one line when they begin and one when they end."""

import logging
import re
from typing import Final

logger = logging.getLogger("api2db.ingest")
_NUMBER = re.compile(r"\d+")
_MOST: Final = 100


class FailureLog:
    """Logs a failure once, however often it repeats, until the first success.

    Failures that differ only in numbers, such as times and page numbers, are the same.

    Args:
        what: The subject, as in "the poll of departures".
        advice: What to do about it.
    """

    def __init__(self, what: str, advice: str) -> None:
        self._what = what
        self._advice = advice
        self._told: set[str] = set()
        self._failures = 0

    def failed(self, error: str) -> None:
        """Log a failure, unless it repeats the last one."""
        self._failures += 1
        kind = _NUMBER.sub("#", error)
        level = logging.DEBUG if kind in self._told else logging.WARNING
        if len(self._told) < _MOST:
            self._told.add(kind)
        logger.log(level, "%s failed: %s; %s", self._what, error, self._advice)

    def went_well(self) -> None:
        """Log the end of failures, if there were any."""
        if self._failures:
            logger.info("%s succeeds again after %d failures", self._what, self._failures)
        self._failures = 0
        self._told.clear()
