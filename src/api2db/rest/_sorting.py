"""Sorting of a poll's rows: new ones, those loaded before, and those that a type refuses."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from api2db.rest._cursor import Known, digest
from api2db.rest._endpoint import Endpoint
from api2db.rest._messages import Figures
from api2db.rest._order import Order
from api2db.rest._reach import Reach
from api2db.rest._shaping import Row

logger = logging.getLogger("api2db.rest")
_MOST_CHANGES: Final = 20_000
_MOST_RECENT: Final = 1_000


@dataclass
class Sorted:
    """The rows of a page that have not been loaded.

    Attributes:
        rows: The rows to load.
        refused: The rows that a type refuses, with the reason.
        uncast: All of them as they came.
        is_last: Whether all further rows have been loaded before.
    """

    rows: list[Row] = field(default_factory=list)
    refused: list[tuple[Row, str]] = field(default_factory=list)
    uncast: list[Row] = field(default_factory=list)
    is_last: bool = False


class Sorting:
    """Sorts the pages of a poll.

    Args:
        endpoint: The list that is polled.
        state: The collector's state. ``known`` and ``changes`` are read here; only ``keep`` changes them.
        kept: The result of ``kept`` of an unfinished poll.
        reach: The cursor values of the poll.
        figures: Where rows are counted.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        state: dict[str, Any],
        kept: Mapping[str, Any] | None,
        reach: Reach,
        figures: Figures,
    ) -> None:
        self._endpoint = endpoint
        self._cursor = endpoint.cursor
        self._state = state
        self._reach = reach
        self._figures = figures
        self._known = self._known_now()
        self._changes: dict[str, str] = {}
        self._window: Order | None = None
        kept = {} if kept is None else kept
        self._recent: dict[str, None] = dict.fromkeys(kept.get("recent", ()))
        self._before: str | None = kept["before"] if "before" in kept else self._known.highest()

    def sort(self, records: Sequence[Any]) -> Sorted:
        """Sort the records of a page."""
        self._known = self._known_now()
        self._changes = dict(self._state.get("changes", {}))
        self._window = self._reach.window
        found = Sorted()
        for record in records:
            row, order = self._endpoint.shape.row(record), self._order(record)
            is_below = self._reach.is_below(order)
            if is_below and self._cursor is not None and self._cursor.descending:
                found.is_last = True
                return found
            if (is_below and self._drops_below()) or self._is_loaded(row, order):
                self._figures.rows_repeated += 1
                continue
            made, reason = self._endpoint.shape.cast(row)
            if reason is None:
                found.rows.append(made)
            else:
                found.refused.append((row, reason))
            found.uncast.append(row)
        return found

    def keep(self, *, is_over: bool) -> None:
        """Store the rows of the last sorted page in the state.

        Args:
            is_over: Whether the poll ends with this page. Otherwise further pages may have rows that were known before.
        """
        if self._endpoint.changes_only:
            self._state["changes"] = self._changes
        if self._cursor is not None:
            self._known.forget_below(self._reach.window, None if is_over else self._before)
            self._state["known"] = self._known.kept

    def kept(self) -> dict[str, Any]:
        """Return what the next poll needs to continue this one, as a JSON value."""
        return {"recent": list(self._recent), "before": self._before}

    def restart(self, reach: Reach) -> "Sorting":
        """Return a Sorting for the list from its beginning, which recognises the last rows of this one."""
        found = Sorting(self._endpoint, self._state, None, reach, self._figures)
        found._recent = self._recent
        return found

    def _known_now(self) -> Known:
        most = self._cursor.remember if self._cursor is not None else 0
        return Known(dict(self._state.get("known", {})), self._endpoint.keys, most)

    def _order(self, record: Any) -> Order | None:
        order = self._reach.order(record)
        if order is None and self._cursor is not None:
            if not self._figures.rows_without_cursor:
                logger.warning(
                    "%s has records whose %s is missing or can't be compared; they are loaded, and don't move the "
                    "cursor",
                    self._endpoint.url,
                    self._cursor.field,
                )
            self._figures.rows_without_cursor += 1
        return order

    def _drops_below(self) -> bool:
        """Whether rows below the begin of the poll count as loaded before."""
        return self._cursor is not None and (self._cursor.param is None or not self._endpoint.keys)

    def _is_loaded(self, row: Row, order: Order | None) -> bool:
        return self._is_recent(row) or self._is_known(row, order) or not self._changed(row)

    def _is_recent(self, row: Row) -> bool:
        """Whether an earlier page of this poll had the row: new rows shift rows to later pages."""
        if self._cursor is None or self._endpoint.keys:
            return False
        name = digest(row)
        known = name in self._recent
        self._recent[name] = None
        if len(self._recent) > _MOST_RECENT:
            del self._recent[next(iter(self._recent))]
        return known

    def _is_known(self, row: Row, order: Order | None) -> bool:
        """Whether the row was loaded before. A new one is remembered if a later poll may return it again."""
        if self._cursor is None:
            return False
        window = self._window
        if order is not None and window is not None and order.kind == window.kind and order < window:
            return self._known.knows(row)
        return self._known.note(row, order)

    def _changed(self, row: Row) -> bool:
        if not self._endpoint.changes_only:
            return True
        name, content = name_of(row, self._endpoint.keys), digest(row)
        same = self._changes.pop(name, None) == content
        self._changes[name] = content
        if len(self._changes) > _MOST_CHANGES:
            del self._changes[next(iter(self._changes))]
        return not same


def name_of(row: Mapping[str, Any], keys: Sequence[str]) -> str:
    """A hash of a row's key."""
    return digest([row.get(key) for key in keys])


def replace_remembered(state: dict[str, Any], rows: Sequence[Row], keys: Sequence[str]) -> None:
    """Replace the rows that a state remembers by rows of the same keys that a backfill has loaded."""
    known, changes = dict(state.get("known", {})), dict(state.get("changes", {}))
    for row in rows if known or changes else ():
        name, content = name_of(row, keys), digest(row)
        if name in known:
            known[name] = [content, known[name][1]]
        if name in changes:
            changes[name] = content
    for part, found in (("known", known), ("changes", changes)):
        if part in state:
            state[part] = found
    state.pop("validators", None)  # the body that was loaded last is no longer what the table has
