"""The reach of a poll: the highest cursor value of its records, and the value that the next poll begins at."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from api2db.rest._cursor import Cursor
from api2db.rest._limits import date_s
from api2db.rest._order import Order, order_of


class Reach:
    """The cursor values of a poll.

    Args:
        cursor: The cursor of the endpoint.
        reached: The cursor value in the state.
        kept: The result of ``kept`` of an unfinished poll.

    Attributes:
        start: The value that the poll begins at; None for everything.
        floor: What ``start`` is compared by.
    """

    def __init__(self, cursor: Cursor | None, reached: Any, kept: Mapping[str, Any] | None) -> None:
        self._cursor = cursor
        kept = {} if kept is None else kept
        self.start = kept["start"] if kept else self._first(reached)
        self.floor = self._order_of(self.start)
        self._high = kept.get("high", reached)
        self._high_order = self._order_of(self._high)
        self._began_s: float | None = kept.get("begun")
        self._safe = kept.get("safe", reached)
        self._window = self._window_of(self._safe)
        self._is_settled = False

    def begin(self, headers: Mapping[str, str]) -> None:
        """Record when the poll began: at its first response."""
        if self._began_s is None:
            self._began_s = date_s(headers)

    def order(self, record: Any) -> Order | None:
        """Return what a record is ordered by, and remember the highest; None if it can't be compared."""
        if self._cursor is None:
            return None
        order, high = self._cursor.order(record), self._high_order
        if order is None:
            return None
        if high is not None and high.kind != order.kind:
            if not high.is_zero:
                return None
            high = None
        if high is None or order > high:
            value = self._cursor.find(record)
            self._high, self._high_order = str(value) if isinstance(value, Decimal) else value, order
            self._is_settled = False
        return order

    def is_below(self, order: Order | None) -> bool:
        """Whether a value is lower than the one at which the poll begins."""
        floor = self.floor
        return floor is not None and order is not None and order.kind == floor.kind and order < floor

    @property
    def safe(self) -> Any:
        """The highest value, but neither later than the begin of the poll nor below the cursor. It never falls.

        The last page of a long poll may have a row that changed after others which the first pages did not have yet.
        """
        self._settle()
        return self._safe

    @property
    def window(self) -> Order | None:
        """The value at which the next poll would begin if this one ended now. It never falls."""
        self._settle()
        return self._window

    def kept(self) -> dict[str, Any]:
        """Return what the next poll needs to continue this one, as a JSON value."""
        return {"start": self.start, "high": self._high, "begun": self._began_s, "safe": self.safe}

    def _first(self, reached: Any) -> Any:
        if self._cursor is None:
            return None
        return self._cursor.initial if reached is None else self._cursor.start(reached)

    def _settle(self) -> None:
        if self._is_settled or self._cursor is None or self._high is None:
            return
        self._is_settled = True
        began_s = self._began_s
        value = self._high if began_s is None else self._cursor.not_after(self._high, began_s)
        window = self._window_of(value)
        if _is_lower(self._order_of(value), self._order_of(self._safe)) or _is_lower(window, self._window):
            return
        self._safe, self._window = value, window

    def _window_of(self, value: Any) -> Order | None:
        return None if self._cursor is None or value is None else self._order_of(self._cursor.start(value))

    def _order_of(self, value: Any) -> Order | None:
        return None if self._cursor is None else order_of(value, self._cursor.type)


def _is_lower(order: Order | None, other: Order | None) -> bool:
    return order is not None and other is not None and order.kind == other.kind and order < other
